"""Weights of a bundle as tensors of TVM's runtime; files are mapped into memory, not copied."""

import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import BundleError

BF16_BITS = np.uint32(16)


def load_parameters(
    bundle: Path, index: str, wanted: Sequence[Mapping[str, Any]], device: Any
) -> list[Any]:
    """Tensors in the order of `wanted` ({name, shape, dtype}), from the index file of a parameter set.

    What is stored as it is wanted is shared with the operating system's page cache; the rest, such
    as bfloat16, is converted. Raises BundleError for a parameter that is missing or has another shape.
    """
    content = json.loads((bundle / index).read_text())
    folder = (bundle / index).parent
    records = {
        record["name"]: (shard, record)
        for shard in content["records"]
        for record in shard["records"]
    }
    missing = [entry["name"] for entry in wanted if entry["name"] not in records]
    if missing:
        raise BundleError(f"{bundle / index} lacks {', '.join(missing)}: build the bundle again.")
    mapped = {shard["dataPath"]: _map(folder / shard["dataPath"]) for shard in content["records"]}
    return [
        _tensor(mapped[shard["dataPath"]], record, entry, device)
        for entry in wanted
        for shard, record in [records[entry["name"]]]
    ]


def _map(path: Path) -> mmap.mmap:
    """A private mapping: tensors must be writable to be shared, and nothing writes to them."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _tensor(
    content: mmap.mmap, record: Mapping[str, Any], wanted: Mapping[str, Any], device: Any
) -> Any:
    import tvm_ffi
    from tvm.runtime import tensor

    values = _values(content, record)
    if list(values.shape) != list(wanted["shape"]):
        raise BundleError(
            f"parameter {record['name']} has shape {list(values.shape)}, the library wants "
            f"{list(wanted['shape'])}: build the bundle again."
        )
    if values.dtype == np.dtype(wanted["dtype"]) and record["format"] == "raw":
        return tvm_ffi.from_dlpack(values)
    return tensor(np.ascontiguousarray(values.astype(wanted["dtype"], copy=False)), device)


def _values(content: mmap.mmap, record: Mapping[str, Any]) -> npt.NDArray[Any]:
    encoded = record["format"] == "f32-to-bf16"
    dtype = np.dtype("<u2") if encoded else np.dtype(record["dtype"])
    shape = tuple(record["shape"])
    flat = np.frombuffer(content, dtype, int(np.prod(shape)), record["byteOffset"])
    if encoded:
        flat = (flat.astype(np.uint32) << BF16_BITS).view(np.float32)
    return flat.reshape(shape)
