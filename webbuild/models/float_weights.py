"""Parameters as floats, under the parameter table's names, a few rows at a time."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from webbuild.models.spec import ParameterSpec
from webbuild.quantization.groups import Floats, SourceTensor


class FloatWeights(Protocol):
    """What a model in floats is computed from."""

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Rows of the parameter `name` along axis 0, float32; all of them without `stop`."""


class CheckpointWeights:
    """A checkpoint's tensors, joined as the parameter table says."""

    def __init__(self, table: Sequence[ParameterSpec], tensors: Mapping[str, SourceTensor]) -> None:
        self._specs = {spec.name: spec for spec in table}
        self._tensors = tensors

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """See FloatWeights; raises CheckpointError if the file is too short."""
        spec = self._specs[name]
        stop = spec.shape[0] if stop is None else stop
        parts = []
        first = 0
        for source in spec.sources:
            tensor = self._tensors[source]
            begin, end = max(start - first, 0), min(stop - first, tensor.shape[0])
            if begin < end:
                parts.append(tensor.read_rows(begin, end))
            first += tensor.shape[0]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
