"""How weights are stored: formats of single tensors, and the quantisations that combine them.

Quantised tensors are in groups of 32 inputs, several levels to a uint32, lowest bits first, a scale for
each group:

| format | levels | value |
| --- | --- | --- |
| q4 | 0 to 15 in 4 bits | (level - 7) * scale; MLC's q4f16_1, and GGUF's Q4_0 with its scale's sign turned |
| q4m | 0 to 15 in 4 bits | level * scale + minimum; GGUF's Q4_1 |
| q8 | 0 to 255 in 8 bits | (level - 128) * scale; GGUF's Q8_0 |
| q0 | none | a float |
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlc_edge.errors import ConfigError
from webbuild.models.spec import ParameterSpec

GROUP = 32
WORD_BITS = 32
# Rows that are put together where weights are interleaved for a CPU's dot products.
BLOCK_ROWS = 16
Storage = Literal["raw", "f32-to-bf16"]


@dataclass(frozen=True)
class TensorFormat:
    """How one weight is stored; `bits` 0 means floats, `zero_point` is the level of the value 0."""

    name: str
    bits: Literal[0, 4, 8]
    zero_point: int = 0
    has_minimums: bool = False

    @property
    def levels_per_word(self) -> int:
        """Levels in a uint32."""
        return WORD_BITS // self.bits

    @property
    def words_per_group(self) -> int:
        """uint32 words that hold a group's levels."""
        return GROUP // self.levels_per_word

    @property
    def group_bytes(self) -> int:
        """Bytes that hold a group's levels."""
        return GROUP * self.bits // 8


Q0 = TensorFormat("q0", 0)
Q4 = TensorFormat("q4", 4, zero_point=7)
Q4M = TensorFormat("q4m", 4, has_minimums=True)
Q8 = TensorFormat("q8", 8, zero_point=128)
TENSOR_FORMATS = {format.name: format for format in (Q0, Q4, Q4M, Q8)}


@dataclass(frozen=True)
class Quantization:
    """What `--quant` names: the format of linear weights, and the float type of scales and other tensors."""

    name: str
    linear: TensorFormat
    dtype: Literal["float16", "float32"]

    @property
    def scale_storage(self) -> Storage:
        """float32 scales keep their upper 16 bits on disk, as in published weights."""
        return "f32-to-bf16" if self.dtype == "float32" else "raw"


QUANTIZATIONS = {
    quantization.name: quantization
    for quantization in (
        Quantization("q0f32", Q0, "float32"),
        Quantization("q0f16", Q0, "float16"),
        Quantization("q4f32_1", Q4, "float32"),
        Quantization("q4f16_1", Q4, "float16"),
        Quantization("q4mf32", Q4M, "float32"),
        Quantization("q4mf16", Q4M, "float16"),
        Quantization("q8f32", Q8, "float32"),
        Quantization("q8f16", Q8, "float16"),
    )
}
# What people type.
SHORT_NAMES = {"q4": "q4f16_1", "q4m": "q4mf16", "q8": "q8f16"}


def find_quantization(name: str) -> Quantization:
    """The quantisation called `name`; raises ConfigError that lists the known ones."""
    name = SHORT_NAMES.get(name, name)
    if name not in QUANTIZATIONS:
        raise ConfigError(
            f"unknown quantization {name!r}: --quant takes one of {', '.join(QUANTIZATIONS)}."
        )
    return QUANTIZATIONS[name]


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
        return item * math.prod(self.shape[1:])

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk."""
        return self.row_bytes * self.shape[0]


def layer_of(tensor: str) -> str:
    """The layer's name, from that of a parameter or of a tensor that it is stored as."""
    return tensor.rpartition(".")[0]


def infer_format(layer: str, shapes: Mapping[str, tuple[int, ...]]) -> TensorFormat:
    """The format of a layer's weight, from the shapes of stored tensors by their names.

    In the standard parameter set or, with levels in three axes, the interleaved one.
    """
    levels, scales = (shapes.get(f"{layer}.{name}") for name in ("q_weight", "q_scale"))
    if not levels or not scales:
        return Q0
    if f"{layer}.q_minimum" in shapes:
        return Q4M
    if len(levels) == 3:
        return Q8 if levels[-1] == BLOCK_ROWS * Q8.group_bytes else Q4
    return Q8 if levels[-1] == scales[-1] * Q8.words_per_group else Q4


@dataclass(frozen=True)
class WeightFormats:
    """A model's formats: those of `exceptions` by parameter, and the quantisation's for the rest."""

    quantization: Quantization
    exceptions: Mapping[str, TensorFormat]

    @property
    def has_groups(self) -> bool:
        """Whether there may be quantised weights."""
        return any(format.bits for format in (self.quantization.linear, *self.exceptions.values()))

    def describe(self) -> str:
        """The same text for the same formats."""
        exceptions = (f"{name}={format.name}" for name, format in sorted(self.exceptions.items()))
        return " ".join((self.quantization.name, *exceptions))

    def of(self, spec: ParameterSpec) -> TensorFormat:
        """How `spec` is stored."""
        if not spec.quantized:
            return Q0
        return self.exceptions.get(spec.name, self.quantization.linear)

    def counts(self, table: Sequence[ParameterSpec]) -> dict[str, int]:
        """Weights in each format that occurs."""
        found = dict.fromkeys(TENSOR_FORMATS, 0)
        for spec in table:
            found[self.of(spec).name] += math.prod(spec.shape)
        return {name: count for name, count in found.items() if count}

    def by_layer(self, table: Sequence[ParameterSpec]) -> dict[str, TensorFormat]:
        """The format of each layer that has a weight to quantise, by the layer's name."""
        return {layer_of(spec.name): self.of(spec) for spec in table if spec.quantized}

    def output_tensors(self, spec: ParameterSpec) -> list[OutputTensor]:
        """The tensors that a parameter is stored as, in order."""
        format, quantization = self.of(spec), self.quantization
        if not format.bits:
            return [OutputTensor(spec.name, spec.shape, quantization.dtype, "raw")]
        rows, columns = spec.shape
        groups = -(-columns // GROUP)
        layer = layer_of(spec.name)
        floats = ["q_scale", "q_minimum"] if format.has_minimums else ["q_scale"]
        return [
            OutputTensor(
                f"{layer}.q_weight", (rows, groups * format.words_per_group), "uint32", "raw"
            ),
            *(
                OutputTensor(
                    f"{layer}.{name}",
                    (rows, groups),
                    quantization.dtype,
                    quantization.scale_storage,
                )
                for name in floats
            ),
        ]
