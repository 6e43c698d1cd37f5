"""MLC's way to round: a group's largest value gives its scale, and each value takes the nearest level."""

import numpy as np

from webbuild.models.spec import ParameterSpec
from webbuild.quantization.encode import round_scales
from webbuild.quantization.formats import Quantization, TensorFormat
from webbuild.quantization.groups import Floats, Groups, grouped


class NearestQuantizer:
    """Scales by the largest magnitude, or by the range where a format has minimums."""

    is_calibrated = False

    def __init__(self, quantization: Quantization) -> None:
        self._quantization = quantization

    def quantize(
        self, spec: ParameterSpec, format: TensorFormat, rows: Floats, first: int
    ) -> Groups:
        """As webbuild.quantization.groups.Quantizer."""
        values = grouped(rows)
        highest = (1 << format.bits) - 1
        minimums = None
        if format.has_minimums:
            minimums = round_scales(values.min(axis=2), self._quantization)
            scales = (values.max(axis=2) - minimums) / np.float32(highest)
        else:
            # As many levels below zero as above: the extreme one that is left is for better quantisers.
            scales = np.abs(values).max(axis=2) / np.float32(highest // 2)
        scales = round_scales(scales, self._quantization)
        levels = levels_of(values, scales, minimums, format)
        return Groups(format, levels, scales, minimums)


def levels_of(
    values: Floats, scales: Floats, minimums: Floats | None, format: TensorFormat
) -> np.ndarray:
    """The nearest level, uint8, of each of `values` [n, G, 32] at given scales and minimums [n, G]."""
    highest = (1 << format.bits) - 1
    divisors = np.where(scales == 0, np.float32(1), scales)[:, :, None]
    # Scales that are infinite are refused when they are stored.
    with np.errstate(invalid="ignore"):
        levels = (values if minimums is None else values - minimums[:, :, None]) / divisors
        np.rint(levels, out=levels)
        levels += format.zero_point
        return np.clip(levels, 0, highest, out=levels).astype(np.uint8)
