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

Array = npt.NDArray[Any]


class ParameterSet:
    """The parameters that an index file (`tensor-cache.json` or one like it) lists."""

    def __init__(self, bundle: Path, index: str) -> None:
        self._index = bundle / index
        content = json.loads(self._index.read_text())
        self._records: dict[str, tuple[mmap.mmap, Mapping[str, Any]]] = {}
        for shard in content["records"]:
            mapped = _map(self._index.parent / shard["dataPath"])
            self._records |= {record["name"]: (mapped, record) for record in shard["records"]}

    def tensors(self, wanted: Sequence[Mapping[str, Any]], device: Any) -> list[Any]:
        """Tensors of `device` in the order of `wanted` ({name, shape, dtype}).

        What a CPU takes as it is stored is shared with the operating system's page cache; the rest, such
        as bfloat16, is converted. Raises BundleError for a parameter that is missing or has another shape.
        """
        missing = [entry["name"] for entry in wanted if entry["name"] not in self._records]
        if missing:
            raise BundleError(f"{self._index} lacks {', '.join(missing)}: build the bundle again.")
        return [self._tensor(entry, device) for entry in wanted]

    def rows(self, name: str, rows: Sequence[int]) -> Array:
        """Some rows (along the first axis) of a parameter as they are stored, bfloat16 widened."""
        return _widened(self._stored(name)[list(rows)], self._records[name][1])

    def _stored(self, name: str) -> Array:
        """A view of the file, bfloat16 as uint16."""
        content, record = self._records[name]
        dtype = np.dtype("<u2") if _is_bf16(record) else np.dtype(record["dtype"])
        shape = tuple(record["shape"])
        flat = np.frombuffer(content, dtype, int(np.prod(shape)), record["byteOffset"])
        return flat.reshape(shape)

    def _tensor(self, wanted: Mapping[str, Any], device: Any) -> Any:
        import tvm_ffi
        from tvm.runtime import tensor

        name = wanted["name"]
        values, record = self._stored(name), self._records[name][1]
        if list(values.shape) != list(wanted["shape"]):
            raise BundleError(
                f"parameter {name} has shape {list(values.shape)}, the library wants "
                f"{list(wanted['shape'])}: build the bundle again."
            )
        shared = device.type == "cpu" and not _is_bf16(record)
        if shared and values.dtype == np.dtype(wanted["dtype"]):
            return tvm_ffi.from_dlpack(values)
        converted = _widened(values, record).astype(wanted["dtype"], copy=False)
        return tensor(np.ascontiguousarray(converted), device)


def _map(path: Path) -> mmap.mmap:
    """A private mapping: tensors must be writable to be shared, and nothing writes to them."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _is_bf16(record: Mapping[str, Any]) -> bool:
    return bool(record["format"] == "f32-to-bf16")


def _widened(values: Array, record: Mapping[str, Any]) -> Array:
    if not _is_bf16(record):
        return values
    return (values.astype(np.uint32) << BF16_BITS).view(np.float32)
