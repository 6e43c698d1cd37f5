"""Quantised weights in the order in which a CPU's dot products take them: a parameter set of its own.

The order is that of webbuild.kernels.cpu.grouped. Everything is stored as libraries read it, in one file, at
offsets that are multiples of 64 bytes, so that a device maps the file into memory and starts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import CheckpointError
from mlc_edge.weight_index import (
    ALIGNMENT,
    BFLOAT16_FORMAT,
    TENSOR_CACHE_NAME,
    Shard,
    TensorRecord,
    read_index,
    widen_bfloat16,
)
from webbuild.quantization.formats import (
    BLOCK_ROWS,
    OutputTensor,
    Storage,
    TensorFormat,
    infer_format,
    layer_of,
)
from webbuild.tensor_cache import (
    WeightPlan,
    create_shards,
    describe_shards,
    hash_md5,
    shard_name,
    write_index,
)

FOLDER = "cpu"
SCALES = ("q_scale", "q_minimum")
INTERLEAVED_INDEX = f"{FOLDER}/{TENSOR_CACHE_NAME}"
FILE_NAME = "params_shard_0.bin"
# Rows that are reordered at a time, to keep memory low.
STEP_ROWS = 512

Rows = npt.NDArray[Any]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class _Mapped:
    """A stored tensor, mapped into memory; `format` is that of the weight that it is a part of."""

    record: TensorRecord
    format: TensorFormat
    values: Rows

    @property
    def form(self) -> "_Form":
        """How it changes when weights are interleaved."""
        return _form_of(self.record.name, self.format)

    def rows(self, start: int, stop: int) -> Rows:
        """Part of axis 0 as it is used: bfloat16 widened to float32."""
        rows = self.values[start:stop]
        return widen_bfloat16(rows) if self.record.is_bfloat16 else rows


def _map_tensors(folder: Path, shards: Sequence[Shard]) -> Iterator[_Mapped]:
    shapes = tensor_shapes(shards)
    for shard in shards:
        for record in shard.tensors:
            values = np.memmap(
                folder / shard.name,
                record.stored_dtype,
                mode="r",
                offset=record.offset,
                shape=record.shape,
            )
            yield _Mapped(record, infer_format(layer_of(record.name), shapes), values)


def tensor_shapes(shards: Sequence[Shard]) -> dict[str, tuple[int, ...]]:
    """The shapes of all stored tensors by their names."""
    return {record.name: record.shape for shard in shards for record in shard.tensors}


def interleave(bundle: Path, advance: Advance) -> None:
    """Write `bundle`'s cpu/ folder from its standard parameter set; tells of bytes written."""
    folder = bundle / FOLDER
    folder.mkdir()
    records = []
    with (folder / FILE_NAME).open("wb") as file:
        for stored in _map_tensors(bundle, read_index(bundle / TENSOR_CACHE_NAME)):
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


def _write(file: BinaryIO, stored: _Mapped, advance: Advance) -> dict[str, Any]:
    """Append a tensor to `file`; its record in the index."""
    offset = file.tell()
    record = stored.record
    form = stored.form
    for start in range(0, record.shape[0], STEP_ROWS):
        content = form.interleave(stored.rows(start, start + STEP_ROWS)).tobytes()
        file.write(content)
        advance(len(content))
    return {
        "name": record.name,
        "shape": list(form.shape(record.shape)),
        "dtype": form.dtype or record.dtype,
        "format": "raw",
        "nbytes": file.tell() - offset,
        "byteOffset": offset,
    }


def interleaved_form(tensor: OutputTensor, format: TensorFormat) -> tuple[tuple[int, ...], str]:
    """Shape and dtype that a tensor of a weight in `format` has in the interleaved parameter set."""
    form = _form_of(tensor.name, format)
    return form.shape(tensor.shape), form.dtype or tensor.dtype


def standard_storages(bundle: Path, shards: Sequence[Shard]) -> dict[str, Storage]:
    """How the scales of `bundle`'s interleaved set are stored in the standard one, if not as usual.

    Scales that bfloat16 can't hold stay float32: weights that come from elsewhere may have them.
    """
    return {
        stored.record.name: "raw"
        for stored in _map_tensors(bundle / FOLDER, shards)
        if stored.record.name.endswith(SCALES) and stored.record.dtype == "float32"
        if any(_lower_halves(rows).any() for rows in _steps(stored, STEP_ROWS // BLOCK_ROWS))
    }


def deinterleave(
    bundle: Path, shards: Sequence[Shard], folder: Path, plan: WeightPlan, advance: Advance
) -> None:
    """Write `folder`'s standard parameter set from `bundle`'s interleaved one: what `interleave` began with.

    Raises CheckpointError for a float32 value that the plan's dtype can't hold.
    """
    interleaved = {tensor.record.name: tensor for tensor in _map_tensors(bundle / FOLDER, shards)}
    create_shards(folder, plan)
    for placements in plan.placements.values():
        for placement in placements:
            with (folder / shard_name(placement.shard)).open("r+b") as file:
                file.seek(placement.offset)
                for content in _standard(interleaved[placement.tensor.name], placement.tensor):
                    file.write(content)
                    advance(len(content))
    describe_shards(folder, plan)


def _standard(stored: _Mapped, tensor: OutputTensor) -> Iterator[bytes]:
    """The content of `tensor`, a few rows at a time."""
    form = stored.form
    rows_left = tensor.shape[0]
    for step in _steps(stored, STEP_ROWS // form.rows):
        rows = form.deinterleave(step)[:rows_left]
        rows_left -= len(rows)
        yield _narrow(rows, tensor).tobytes()


def _steps(stored: _Mapped, count: int) -> Iterator[Rows]:
    for start in range(0, stored.record.shape[0], count):
        yield stored.rows(start, start + count)


def _narrow(rows: Rows, tensor: OutputTensor) -> Rows:
    if tensor.storage == BFLOAT16_FORMAT:
        return (rows.view(np.uint32) >> np.uint32(16)).astype("<u2")
    with np.errstate(over="ignore"):
        narrow = rows.astype(np.dtype(tensor.dtype).newbyteorder("<"), copy=False)
    if (narrow != rows).any():
        raise CheckpointError(
            f"tensor {tensor.name} holds values that {tensor.dtype} doesn't: the bundle is damaged, "
            "download it again."
        )
    return narrow


def _lower_halves(rows: Rows) -> Rows:
    return np.ascontiguousarray(rows).view(np.uint32) & np.uint32(0xFFFF)


@dataclass(frozen=True)
class _Form:
    """How a kind of tensor changes, and back; `dtype` None keeps the tensor's.

    An element of the interleaved tensor's axis 0 holds `rows` rows.
    """

    rows: int
    shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    dtype: str | None
    interleave: Callable[[Rows], Rows]
    deinterleave: Callable[[Rows], Rows]


def _form_of(name: str, format: TensorFormat) -> _Form:
    if name.endswith("q_weight"):
        return _weight_form(format)
    if name.endswith(SCALES):
        return _Form(BLOCK_ROWS, _scale_shape, None, interleave_scales, deinterleave_scales)
    return _Form(1, lambda shape: shape, "float32", _as_float32, lambda rows: rows)


def _weight_form(format: TensorFormat) -> _Form:
    def shape(standard: tuple[int, ...]) -> tuple[int, ...]:
        groups = standard[1] // format.words_per_group
        return (-(-standard[0] // BLOCK_ROWS), groups, BLOCK_ROWS * format.group_bytes)

    if format.bits == 8:
        return _Form(BLOCK_ROWS, shape, "uint8", interleave_bytes, deinterleave_bytes)
    return _Form(BLOCK_ROWS, shape, "uint8", interleave_nibbles, deinterleave_nibbles)


def _scale_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (-(-shape[0] // BLOCK_ROWS), shape[1], BLOCK_ROWS)


def _as_float32(rows: Rows) -> Rows:
    return rows.astype("<f4", copy=False)


def _whole_blocks(rows: Rows) -> Rows:
    missing = -len(rows) % BLOCK_ROWS
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows


def interleave_scales(scales: Rows) -> Rows:
    """[n, G] to [ceil(n / 16), G, 16]; rows that pad the last block get the scale 0."""
    whole = _whole_blocks(scales)
    blocks = whole.reshape(-1, BLOCK_ROWS, scales.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks)


def deinterleave_scales(blocks: Rows) -> Rows:
    """[b, G, 16] to [b * 16, G]."""
    rows = np.ascontiguousarray(blocks.transpose(0, 2, 1))
    return rows.reshape(-1, blocks.shape[1])


def interleave_nibbles(words: Rows) -> npt.NDArray[np.uint8]:
    """4-bit levels, uint32 [n, G * 4] to uint8 [ceil(n / 16), G, 256]."""
    pairs = _bytes_of(words)
    values = np.stack([pairs & 15, pairs >> 4], axis=-1)
    # Axes: block, row, group, eight inputs, lower or upper half of a byte, input.
    order = values.reshape(-1, BLOCK_ROWS, words.shape[1] // 4, 4, 2, 4)
    lower, upper = order.transpose(4, 0, 2, 3, 1, 5)
    packed: npt.NDArray[np.uint8] = lower | (upper << 4)
    return packed.reshape(*packed.shape[:2], -1)


def deinterleave_nibbles(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """uint8 [b, G, 256] to uint32 [b * 16, G * 4]."""
    blocks, groups, _ = packed.shape
    halves = packed.reshape(blocks, groups, 4, BLOCK_ROWS, 4)
    # Axes as in `interleave_nibbles`.
    order = np.stack([halves & 15, halves >> 4]).transpose(1, 4, 2, 3, 0, 5)
    values = np.ascontiguousarray(order).reshape(blocks * BLOCK_ROWS, -1, 2)
    pairs = values[..., 0] | (values[..., 1] << np.uint8(4))
    return np.ascontiguousarray(pairs).view("<u4")


def interleave_bytes(words: Rows) -> npt.NDArray[np.uint8]:
    """8-bit levels, uint32 [n, G * 8] to uint8 [ceil(n / 16), G, 512]."""
    # Axes: block, row, group, four inputs, input.
    order = _bytes_of(words).reshape(-1, BLOCK_ROWS, words.shape[1] // 8, 8, 4)
    packed = np.ascontiguousarray(order.transpose(0, 2, 3, 1, 4))
    return packed.reshape(*packed.shape[:2], -1)


def deinterleave_bytes(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """uint8 [b, G, 512] to uint32 [b * 16, G * 8]."""
    blocks, groups, _ = packed.shape
    order = packed.reshape(blocks, groups, 8, BLOCK_ROWS, 4).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(order).reshape(blocks * BLOCK_ROWS, -1).view("<u4")


def _bytes_of(words: Rows) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(_whole_blocks(words)).astype("<u4", copy=False).view(np.uint8)
