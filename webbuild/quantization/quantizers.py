"""Quantisers by effort: scales by search alone, or with what the layers read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from webbuild.models.spec import ParameterSpec
from webbuild.quantization.encode import round_scales
from webbuild.quantization.formats import Quantization, TensorFormat
from webbuild.quantization.groups import Floats, Groups
from webbuild.quantization.search import search_groups

# Means of the squares float32 [k] of what a parameter is multiplied with; None if nothing is known of it.
MeanSquares = Callable[[ParameterSpec], Floats | None]
# Of the mean of all inputs: none is worth nothing, whatever one text has of it.
LEAST_WEIGHT = 1e-3


class SearchQuantizer:
    """Scales, and minimums, whose levels are nearest by the squares that `mean_squares` weigh."""

    def __init__(
        self,
        quantization: Quantization,
        threads: ThreadPoolExecutor,
        mean_squares: MeanSquares | None = None,
    ) -> None:
        self.is_calibrated = mean_squares is not None
        self._quantization = quantization
        self._threads = threads
        self._mean_squares = mean_squares or (lambda _: None)

    def quantize(
        self, spec: ParameterSpec, format: TensorFormat, rows: Floats, first: int
    ) -> Groups:
        """As webbuild.quantization.groups.Quantizer."""
        squares = self._mean_squares(spec)
        return search_groups(
            rows,
            format,
            lambda scales: round_scales(scales, self._quantization),
            weights=None if squares is None else squares + LEAST_WEIGHT * squares.mean(),
            threads=self._threads,
        )
