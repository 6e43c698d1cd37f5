"""4-bit weights in the order in which a CPU's dot products take them: a parameter set of its own.

The order is that of webbuild.kernels.cpu.int4. Everything is stored as libraries read it, in one file, at
offsets that are multiples of 64 bytes, so that a device maps the file into memory and starts.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from webbuild.quantization import GROUP, VALUES_PER_WORD
from webbuild.tensor_cache import TENSOR_CACHE_NAME, hash_md5, write_index

FOLDER = "cpu"
INTERLEAVED_INDEX = f"{FOLDER}/{TENSOR_CACHE_NAME}"
FILE_NAME = "params_shard_0.bin"
ALIGNMENT = 64
BLOCK_ROWS = 16
# Rows that are reordered at a time, to keep memory low.
STEP_ROWS = 512

Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class _Stored:
    """A tensor of the standard parameter set, mapped into memory."""

    name: str
    values: Rows
    is_bf16: bool

    def floats(self, start: int, stop: int) -> Rows:
        """Rows as they are used: bfloat16 widened to float32."""
        rows = self.values[start:stop]
        if not self.is_bf16:
            return rows
        return (rows.astype(np.uint32) << np.uint32(16)).view(np.float32)


def interleave(bundle: Path, advance: Callable[[int], None]) -> None:
    """Write `bundle`'s cpu/ folder from its standard parameter set; tells of bytes written."""
    folder = bundle / FOLDER
    folder.mkdir()
    records = []
    with (folder / FILE_NAME).open("wb") as file:
        for stored in _standard_set(bundle):
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            records.append(_write(file, stored, advance))
    size = (folder / FILE_NAME).stat().st_size
    shard = {
        "dataPath": FILE_NAME,
        "format": "raw-shard",
        "nbytes": size,
        "records": records,
        "md5sum": hash_md5(folder / FILE_NAME),
    }
    write_index(
        folder,
        {"metadata": {"ParamSize": len(records), "ParamBytes": size}, "records": [shard]},
    )


def _standard_set(bundle: Path) -> Iterator[_Stored]:
    content = json.loads((bundle / TENSOR_CACHE_NAME).read_text())
    for shard in content["records"]:
        for record in shard["records"]:
            is_bf16 = record["format"] == "f32-to-bf16"
            values = np.memmap(
                bundle / shard["dataPath"],
                np.dtype("<u2") if is_bf16 else np.dtype(record["dtype"]),
                mode="r",
                offset=record["byteOffset"],
                shape=tuple(record["shape"]),
            )
            yield _Stored(record["name"], values, is_bf16)


def _write(file: BinaryIO, stored: _Stored, advance: Callable[[int], None]) -> dict[str, Any]:
    """Append a tensor to `file`; its record in the index."""
    offset = file.tell()
    convert, shape_of, dtype = _conversion(stored)
    for start in range(0, stored.values.shape[0], STEP_ROWS):
        content = convert(stored.floats(start, start + STEP_ROWS)).tobytes()
        file.write(content)
        advance(len(content))
    return {
        "name": stored.name,
        "shape": shape_of(stored.values.shape),
        "dtype": dtype,
        "format": "raw",
        "nbytes": file.tell() - offset,
        "byteOffset": offset,
    }


def _conversion(
    stored: _Stored,
) -> tuple[Callable[[Rows], Rows], Callable[[tuple[int, ...]], list[int]], str]:
    """How a tensor's rows, its shape and its dtype change."""
    if stored.name.endswith("q_weight"):
        return interleave_words, _weight_shape, "uint8"
    if stored.name.endswith("q_scale"):
        dtype = "float32" if stored.is_bf16 else str(stored.values.dtype)
        return interleave_scales, _scale_shape, dtype
    return _plain, _plain_shape, "float32"


def _weight_shape(shape: tuple[int, ...]) -> list[int]:
    groups = shape[1] * VALUES_PER_WORD // GROUP
    return [-(-shape[0] // BLOCK_ROWS), groups, BLOCK_ROWS * GROUP // 2]


def _scale_shape(shape: tuple[int, ...]) -> list[int]:
    return [-(-shape[0] // BLOCK_ROWS), shape[1], BLOCK_ROWS]


def _plain_shape(shape: tuple[int, ...]) -> list[int]:
    return list(shape)


def _plain(rows: Rows) -> Rows:
    return rows.astype("<f4", copy=False)


def _whole_blocks(rows: Rows) -> Rows:
    missing = -len(rows) % BLOCK_ROWS
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows


def interleave_scales(scales: Rows) -> Rows:
    """[n, G] to [ceil(n / 16), G, 16]; rows that pad the last block get the scale 0."""
    whole = _whole_blocks(scales)
    blocks = whole.reshape(-1, BLOCK_ROWS, scales.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks)


def interleave_words(words: Rows) -> npt.NDArray[np.uint8]:
    """uint32 [n, G * 4] to uint8 [ceil(n / 16), G, 256]."""
    pairs = np.ascontiguousarray(_whole_blocks(words)).astype("<u4", copy=False).view(np.uint8)
    values = np.stack([pairs & 15, pairs >> 4], axis=-1)
    # Axes: block, row, group, eight inputs, lower or upper half of a byte, input.
    order = values.reshape(-1, BLOCK_ROWS, words.shape[1] * VALUES_PER_WORD // GROUP, 4, 2, 4)
    lower, upper = order.transpose(4, 0, 2, 3, 1, 5)
    packed: npt.NDArray[np.uint8] = lower | (upper << 4)
    return packed.reshape(*packed.shape[:2], -1)
