"""Weights of a bundle as tensors of TVM's runtime; files are mapped into memory, not copied."""

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.bundle import REBUILD
from mlc_edge.errors import BundleError
from mlc_edge.weight_index import ALIGNMENT, Shard, TensorRecord, read_index, widen_bfloat16


def load_parameters(
    bundle: Path, index: str, wanted: Sequence[Mapping[str, Any]], device: Any
) -> list[Any]:
    """Tensors in the order of `wanted` ({name, shape, dtype}), from the index file of a parameter set.

    What is stored as it is wanted is shared with the operating system's page cache; the rest, such
    as bfloat16, is converted. Raises BundleError for a parameter that is missing or has another shape.
    """
    shards = read_index(bundle / index)
    found = {tensor.name: (shard, tensor) for shard in shards for tensor in shard.tensors}
    missing = [entry["name"] for entry in wanted if entry["name"] not in found]
    if missing:
        raise BundleError(f"{bundle / index} lacks {', '.join(missing)}. {REBUILD}")
    folder = (bundle / index).parent
    mapped = {shard.name: _map(folder, shard) for shard in shards if shard.tensors}
    return [
        _tensor(mapped[shard.name], tensor, entry, device)
        for entry in wanted
        for shard, tensor in [found[entry["name"]]]
    ]


def _map(folder: Path, shard: Shard) -> mmap.mmap:
    """A private mapping: tensors must be writable to be shared, and nothing writes to them."""
    path = folder / shard.name
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} can't be read: {error}. {REBUILD}") from error
    if len(mapped) < shard.nbytes:
        raise BundleError(f"{path} has {len(mapped)} bytes, expected {shard.nbytes}. {REBUILD}")
    return mapped


def _tensor(
    content: mmap.mmap, record: TensorRecord, wanted: Mapping[str, Any], device: Any
) -> Any:
    import tvm_ffi
    from tvm.runtime import tensor

    if list(record.shape) != list(wanted["shape"]):
        raise BundleError(
            f"parameter {record.name} has shape {list(record.shape)}, the library wants "
            f"{list(wanted['shape'])}. {REBUILD}"
        )
    values = _values(content, record)
    aligned = values.ctypes.data % ALIGNMENT == 0
    if aligned and values.dtype == np.dtype(wanted["dtype"]):
        return tvm_ffi.from_dlpack(values)
    return tensor(np.ascontiguousarray(values.astype(wanted["dtype"], copy=False)), device)


def _values(content: mmap.mmap, record: TensorRecord) -> npt.NDArray[Any]:
    count = record.nbytes // record.stored_dtype.itemsize
    flat = np.frombuffer(content, record.stored_dtype, count, record.offset)
    return (widen_bfloat16(flat) if record.is_bfloat16 else flat).reshape(record.shape)
