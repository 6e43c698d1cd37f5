"""What a model's parameters are called and where they come from; knows nothing of TVM."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter in MLC's naming.

    `sources` are tensors of the checkpoint, concatenated along axis 0; `shape` is the result's shape,
    before quantisation; `quantized` says whether a quantisation applies to it, `vocabulary` whether it has
    a row for each token.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    quantized: bool
    vocabulary: bool = False

    @property
    def weights(self) -> int:
        """Their number."""
        return math.prod(self.shape)


def parameter_count(table: Sequence[ParameterSpec]) -> int:
    """Number of weights, before quantisation."""
    return sum(spec.weights for spec in table)
