"""Weights as levels and scales, before they are packed; what gives them, and what makes them of floats."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from webbuild.models.spec import ParameterSpec
from webbuild.quantization.formats import GROUP, TensorFormat

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Groups:
    """Rows of a weight in groups of 32 inputs; the last group is padded.

    `levels` uint8 [n, G, 32]; `scales` and `minimums` float32 [n, G], the latter where the format has them.
    """

    format: TensorFormat
    levels: npt.NDArray[np.uint8]
    scales: Floats
    minimums: Floats | None = None

    def values(self, columns: int) -> Floats:
        """The weights, float32 [n, columns]."""
        centred = self.levels.astype(np.float32) - np.float32(self.format.zero_point)
        values = centred * self.scales[:, :, None]
        if self.minimums is not None:
            values += self.minimums[:, :, None]
        flat: Floats = values.reshape(len(values), -1)[:, :columns]
        return flat


class SourceTensor(Protocol):
    """A tensor of a checkpoint, read a few rows at a time."""

    @property
    def name(self) -> str:
        """As in the parameter table's `sources`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the floats."""

    @property
    def group_format(self) -> TensorFormat | None:
        """The format that `read_groups` gives without any loss, None if the tensor has none."""

    def read_rows(self, start: int, stop: int) -> Floats:
        """Rows along axis 0, float32 [stop - start, ...]; raises CheckpointError if the file is too short."""

    def read_groups(self, start: int, stop: int) -> Groups:
        """The same rows as they are stored; only where there is a `group_format`."""


class Quantizer(Protocol):
    """Makes levels of floats; `is_calibrated` says whether it knows a text's statistics."""

    is_calibrated: bool

    def quantize(
        self, spec: ParameterSpec, format: TensorFormat, rows: Floats, first: int
    ) -> Groups:
        """Rows `first` and following of a parameter, float32 [n, k], in `format`.

        Scales and minimums are rounded to what the quantisation stores.
        """


def grouped(rows: Floats) -> Floats:
    """[n, k] to [n, ceil(k / 32), 32], padded with zeros."""
    missing = -rows.shape[1] % GROUP
    if missing:
        rows = np.pad(rows, ((0, 0), (0, missing)))
    return rows.reshape(len(rows), -1, GROUP)
