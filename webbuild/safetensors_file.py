"""Reads safetensors files a few rows at a time (https://huggingface.co/docs/safetensors).

The safetensors package maps whole files and hands NumPy no bfloat16; here memory stays at the size
of the block that is asked for.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import CheckpointError
from webbuild.quantization.groups import Groups

MAX_HEADER_BYTES = 100_000_000
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies; `dtype` is the file's name for it, `offset` is from the file's start."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def group_format(self) -> None:
        """None: the file holds floats."""

    def read_groups(self, start: int, stop: int) -> Groups:
        """Nothing: there is no `group_format`."""
        raise NotImplementedError

    def read_rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows `start` to `stop` along axis 0, widened to float32 [stop - start, ...].

        Raises CheckpointError when the file ends before them.
        """
        row_items = math.prod(self.shape[1:])
        item_bytes = ITEM_BYTES[self.dtype]
        count = (stop - start) * row_items
        with self.file.open("rb") as file:
            file.seek(self.offset + start * row_items * item_bytes)
            content = file.read(count * item_bytes)
        if len(content) != count * item_bytes:
            raise CheckpointError(
                f"{self.file} ends inside tensor {self.name}: download the file again."
            )
        return _widen(content, self.dtype).reshape(stop - start, *self.shape[1:])


def _widen(content: bytes, dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "F32":
        return np.frombuffer(content, "<f4")
    if dtype == "F16":
        return np.frombuffer(content, "<f2").astype(np.float32)
    return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)


def read_header(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """Tensors of a safetensors file by name, and what is wrong with the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                return {}, [
                    f"{path.name} is not a whole safetensors file ({size} bytes, "
                    "and its header doesn't fit): download it again"
                ]
            header = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        return {}, [f"{path.name} can't be read as safetensors ({error}): download it again"]
    if not isinstance(header, dict):
        return {}, [f"{path.name} has a header that is not a JSON object: download it again"]
    tensors: dict[str, StoredTensor] = {}
    problems: list[str] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        problem = _entry_problem(entry, size - 8 - length)
        if problem:
            problems.append(f"{path.name}: tensor {name} {problem}")
        else:
            begin = 8 + length + entry["data_offsets"][0]
            tensors[name] = StoredTensor(name, path, entry["dtype"], tuple(entry["shape"]), begin)
    return tensors, _summed_up(problems)


def _entry_problem(entry: Any, data_bytes: int) -> str | None:
    try:
        begin, end = entry["data_offsets"]
        shape, dtype = entry["shape"], entry["dtype"]
        items = math.prod(shape)
        sane = isinstance(dtype, str) and 0 <= begin <= end
        sane = sane and all(isinstance(n, int) and n >= 0 for n in (begin, end, *shape))
    except (KeyError, TypeError, ValueError):
        return "has a damaged header entry: download the file again"
    if not sane:
        return "has a damaged header entry: download the file again"
    if end > data_bytes:
        return (
            f"ends at byte {end} of the data, but the file holds {data_bytes}: it was cut off, "
            "download it again"
        )
    if dtype in ITEM_BYTES and items * ITEM_BYTES[dtype] != end - begin:
        return (
            f"takes {end - begin} bytes, expected {items * ITEM_BYTES[dtype]} for {shape} {dtype}"
        )
    return None


def _summed_up(problems: list[str], limit: int = 5) -> list[str]:
    """A cut-off file damages most of its tensors: a few say it all."""
    if len(problems) <= limit:
        return problems
    return [*problems[:limit], f"and {len(problems) - limit} more of that kind"]
