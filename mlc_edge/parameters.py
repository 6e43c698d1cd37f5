"""Weights of a bundle as tensors of TVM's runtime; files are mapped into memory, not copied."""

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.bundle import REBUILD
from mlc_edge.errors import BundleError
from mlc_edge.weight_index import (
    ALIGNMENT,
    FIRST_ROW,
    Shard,
    TensorRecord,
    read_index,
    widen_bfloat16,
)

Array = npt.NDArray[Any]


class ParameterSet:
    """The parameters that an index file (`tensor-cache.json` or one like it) lists."""

    def __init__(self, bundle: Path, index: str) -> None:
        """Map the files; raises BundleError that says what is wrong with the index or a file."""
        self._index = bundle / index
        self._records: dict[str, tuple[mmap.mmap, TensorRecord]] = {}
        for shard in read_index(self._index):
            if shard.tensors:
                mapped = _map(self._index.parent, shard)
                self._records |= {tensor.name: (mapped, tensor) for tensor in shard.tensors}

    def require(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Raise BundleError for a parameter that is missing or has another shape.

        One is {name, shape, dtype}, with `first_row` where it is some rows of what is stored by that name.
        """
        missing = [entry["name"] for entry in wanted if entry["name"] not in self._records]
        if missing:
            raise BundleError(f"{self._index} lacks {', '.join(missing)}. {REBUILD}")
        for entry in wanted:
            _, record = self._records[entry["name"]]
            if not _holds(record, entry):
                raise BundleError(
                    f"parameter {record.name} has shape {list(record.shape)}, the library wants "
                    f"{list(entry['shape'])}{_told_row(entry)}. {REBUILD}"
                )

    def tensors(self, wanted: Sequence[Mapping[str, Any]], device: Any) -> list[Any]:
        """Tensors of `device` in the order of `wanted`, as `require` has checked them.

        What a CPU takes as it is stored is shared with the operating system's page cache; the rest, such
        as bfloat16, is converted. Another device has room for all before any is copied, or says so.
        """
        from tvm.runtime import empty

        if device.type == "cpu":
            return [self._host_tensor(entry, device) for entry in wanted]
        tensors = [empty(tuple(entry["shape"]), entry["dtype"], device) for entry in wanted]
        for entry, copied in zip(wanted, tensors, strict=True):
            copied.copyfrom(self._values(entry))
        return tensors

    def rows(self, name: str, rows: Sequence[int]) -> Array:
        """Some rows (along the first axis) of a parameter as they are stored, bfloat16 widened."""
        return _widened(self._stored(name)[list(rows)], self._records[name][1])

    def _stored(self, name: str) -> Array:
        """A view of the file, bfloat16 as uint16."""
        content, record = self._records[name]
        count = record.nbytes // record.stored_dtype.itemsize
        flat = np.frombuffer(content, record.stored_dtype, count, record.offset)
        return flat.reshape(record.shape)

    def _part(self, wanted: Mapping[str, Any]) -> Array:
        """What is wanted of a stored tensor."""
        first = wanted.get(FIRST_ROW, 0)
        values = self._stored(wanted["name"])
        return values[first : first + wanted["shape"][0]] if values.ndim else values

    def _host_tensor(self, wanted: Mapping[str, Any], device: Any) -> Any:
        import tvm_ffi
        from tvm.runtime import tensor

        values = self._part(wanted)
        if values.ctypes.data % ALIGNMENT == 0 and values.dtype == np.dtype(wanted["dtype"]):
            return tvm_ffi.from_dlpack(values)
        return tensor(self._values(wanted), device)

    def _values(self, wanted: Mapping[str, Any]) -> Array:
        """In the wanted dtype."""
        values = _widened(self._part(wanted), self._records[wanted["name"]][1])
        return np.ascontiguousarray(values.astype(wanted["dtype"], copy=False))


def _holds(record: TensorRecord, wanted: Mapping[str, Any]) -> bool:
    shape = tuple(wanted["shape"])
    if FIRST_ROW not in wanted:
        return record.shape == shape
    return wanted[FIRST_ROW] + shape[0] <= record.shape[0] and record.shape[1:] == shape[1:]


def _told_row(wanted: Mapping[str, Any]) -> str:
    return f" from row {wanted[FIRST_ROW]} on" if FIRST_ROW in wanted else ""


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


def _widened(values: Array, record: TensorRecord) -> Array:
    return widen_bfloat16(values) if record.is_bfloat16 else values
