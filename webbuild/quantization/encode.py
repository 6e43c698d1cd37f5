"""Group quantisation in MLC's layout: 4-bit values, 8 to a uint32, one scale for 32 of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import CheckpointError, ConfigError
from webbuild.models.spec import ParameterSpec

GROUP = 32
VALUES_PER_WORD = 8
WORDS_PER_GROUP = GROUP // VALUES_PER_WORD
MAX_LEVEL = 7
Storage = Literal["raw", "f32-to-bf16"]


@dataclass(frozen=True)
class Quantization:
    """A weight format; `dtype` is that of scales and of weights that stay floats."""

    name: str
    bits: Literal[0, 4]
    dtype: Literal["float16", "float32"]

    @property
    def scale_storage(self) -> Storage:
        """float32 scales keep their upper 16 bits on disk, as in published weights."""
        return "f32-to-bf16" if self.dtype == "float32" else "raw"


FORMATS = {
    format.name: format
    for format in (
        Quantization("q0f32", 0, "float32"),
        Quantization("q0f16", 0, "float16"),
        Quantization("q4f32_1", 4, "float32"),
        Quantization("q4f16_1", 4, "float16"),
    )
}


def find_quantization(name: str) -> Quantization:
    """The format called `name`; raises ConfigError that lists the known ones."""
    if name not in FORMATS:
        raise ConfigError(
            f"unknown quantization {name!r}: --quant takes one of {', '.join(FORMATS)}."
        )
    return FORMATS[name]


@dataclass(frozen=True)
class OutputTensor:
    """A tensor as it is stored: `shape` and `dtype` in memory, `storage` on disk."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: Storage

    @property
    def row_bytes(self) -> int:
        """Bytes on disk of one element of axis 0."""
        item = 2 if self.storage == "f32-to-bf16" else np.dtype(self.dtype).itemsize
        return item * int(np.prod(self.shape[1:], dtype=np.int64))

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk."""
        return self.row_bytes * self.shape[0]


def output_tensors(spec: ParameterSpec, quantization: Quantization) -> list[OutputTensor]:
    """The tensors that a parameter is stored as, in order."""
    if not (spec.quantized and quantization.bits):
        return [OutputTensor(spec.name, spec.shape, quantization.dtype, "raw")]
    rows, columns = spec.shape
    groups = -(-columns // GROUP)
    stem = spec.name.removesuffix("weight")
    return [
        OutputTensor(f"{stem}q_weight", (rows, groups * WORDS_PER_GROUP), "uint32", "raw"),
        OutputTensor(
            f"{stem}q_scale", (rows, groups), quantization.dtype, quantization.scale_storage
        ),
    ]


def encode(
    name: str,
    rows: npt.NDArray[np.float32],
    spec: ParameterSpec,
    quantization: Quantization,
) -> Iterator[bytes]:
    """The bytes of some rows for each of the parameter's `output_tensors`.

    `name` is the checkpoint's tensor, for the CheckpointError about values that no format holds.
    """
    if not np.isfinite(rows).all():
        raise CheckpointError(f"tensor {name} holds NaN or infinity: the checkpoint is damaged.")
    if not (spec.quantized and quantization.bits):
        yield _as_dtype(name, rows, quantization).tobytes()
        return
    words, scales = quantize(rows, quantization)
    yield words.astype("<u4", copy=False).tobytes()
    if quantization.scale_storage == "f32-to-bf16":
        yield (scales.view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        yield _as_dtype(name, scales, quantization).tobytes()


def quantize(
    weight: npt.NDArray[np.float32], quantization: Quantization
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Words uint32 [n, groups * 4] and scales float32 [n, groups] of `weight` [n, k].

    Scales are rounded to what the format stores before weights are divided by them, so that the
    stored pair is as near to the weight as it can be.
    """
    rows, columns = weight.shape
    groups = -(-columns // GROUP)
    if columns % GROUP:
        weight = np.pad(weight, ((0, 0), (0, groups * GROUP - columns)))
    grouped = weight.reshape(rows, groups, GROUP)
    scales = np.abs(grouped).max(axis=2) / np.float32(MAX_LEVEL)
    scales = round_to_bf16(scales) if quantization.dtype == "float32" else _round_to_f16(scales)
    divisors = np.where(scales == 0, np.float32(1), scales)[:, :, None]
    levels = grouped / divisors
    np.rint(levels, out=levels)
    np.clip(levels, -MAX_LEVEL, MAX_LEVEL, out=levels)
    values = (levels + MAX_LEVEL).astype(np.uint32).reshape(rows, -1, VALUES_PER_WORD)
    words = np.zeros(values.shape[:2], np.uint32)
    for index in range(VALUES_PER_WORD):
        words |= values[:, :, index] << np.uint32(4 * index)
    return words, scales


def round_to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Finite float32 to the nearest value with zero lower 16 bits, ties to even."""
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def _round_to_f16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _as_dtype(
    name: str, values: npt.NDArray[np.float32], quantization: Quantization
) -> npt.NDArray[np.floating]:
    if quantization.dtype == "float32":
        return values.astype("<f4", copy=False)
    with np.errstate(over="ignore"):
        narrow = values.astype("<f2")
    if not np.isfinite(narrow).all():
        raise CheckpointError(
            f"tensor {name} holds values beyond float16's 65504: use q4f32_1 or q0f32."
        )
    return narrow
