"""Rounding with error feedback: what a column's rounding does wrong, the columns after it make good.

The method is GPTQ's (https://arxiv.org/abs/2210.17323): minimise |(W - Q) X|^2 a column at a time. With
H = X X^T and the upper triangular U of H^-1 = U^T U, rounding column j by the error e changes the columns
k > j by -e * U[j, k] / U[j, j]. Here scales are searched for, group by group, on columns that have been
changed so, by the squares that the rounding of each still costs, 1 / U[j, j]^2.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from webbuild.models.spec import ParameterSpec
from webbuild.quantization.encode import round_scales
from webbuild.quantization.formats import GROUP, Quantization, TensorFormat
from webbuild.quantization.groups import Floats, Groups
from webbuild.quantization.search import Rounding, search_groups

# A text of some thousand tokens shows only roughly which inputs go together: this part of H off its diagonal
# is believed, and this part of its diagonal's mean is added. Found on other texts than the calibration's.
BELIEF, DAMPING = 0.5, 0.3
# Groups whose changes of the columns far behind them are applied at once.
BLOCK_GROUPS = 4
# What a thread rounds at a time.
PART_ROWS = 512
Products = Callable[[ParameterSpec], Floats | None]


def triangle(products: Floats) -> Floats:
    """U float32 [k, k] of the inputs' mean products [k, k], shrunk and damped."""
    damped = BELIEF * products.astype(np.float64)
    diagonal = np.diag(products).astype(np.float64)
    mean = float(diagonal.mean())
    damped[np.diag_indices_from(damped)] = diagonal + (DAMPING * mean if mean > 0 else 1.0)
    upper: Floats = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return upper


# Infinite scales make values that are none.
@np.errstate(invalid="ignore")
def round_with_feedback(
    rows: Floats,
    upper: Floats,
    format: TensorFormat,
    stored: Rounding,
) -> Groups:
    """`rows` float32 [n, k] in `format`, given `triangle`'s result; `stored` rounds scales and minimums."""
    rest = rows.copy()
    found: list[Groups] = []
    columns = rows.shape[1]
    width = BLOCK_GROUPS * GROUP
    for start in range(0, columns, width):
        stop = min(start + width, columns)
        errors = np.zeros((len(rows), stop - start), np.float32)
        for first in range(start, stop, GROUP):
            last = min(first + GROUP, stop)
            group = slice(first, last)
            rest[:, group] -= errors[:, : first - start] @ upper[start:first, group]
            triangle_here = upper[group, group]
            groups, wrong = _round_group(rest[:, group], triangle_here, format, stored)
            errors[:, first - start : last - start] = wrong
            found.append(groups)
        rest[:, stop:] -= errors @ upper[start:stop, stop:]
    return _joined(found, axis=1)


def _round_group(
    values: Floats,
    upper: Floats,
    format: TensorFormat,
    stored: Rounding,
) -> tuple[Groups, Floats]:
    """Columns of one group, with each one's error divided by its diagonal element."""
    costs: Floats = np.reciprocal(np.square(np.diag(upper)))
    groups = search_groups(values, format, stored, weights=costs)
    scales = groups.scales[:, 0]
    minimums = np.zeros_like(scales) if groups.minimums is None else groups.minimums[:, 0]
    line = _Line(scales, minimums, format)
    rest = np.asfortranarray(values)
    errors = np.zeros_like(rest)
    for column in range(values.shape[1]):
        levels = line.levels(rest[:, column])
        groups.levels[:, 0, column] = levels + format.zero_point
        wrong = (rest[:, column] - line.values(levels)) / upper[column, column]
        rest[:, column + 1 :] -= np.outer(wrong, upper[column, column + 1 :])
        errors[:, column] = wrong
    return groups, errors


@dataclass(frozen=True)
class _Line:
    """A group's values by its levels, as float32 [n] of n rows."""

    scales: Floats
    minimums: Floats
    format: TensorFormat

    def levels(self, values: Floats) -> Floats:
        scales = np.where(self.scales == 0, np.float32(np.inf), self.scales)
        lowest = -self.format.zero_point
        highest = (1 << self.format.bits) - 1 - self.format.zero_point
        nearest = np.rint((values - self.minimums) / scales)
        return np.clip(nearest, np.float32(lowest), np.float32(highest))

    def values(self, levels: Floats) -> Floats:
        return levels * self.scales + self.minimums


def _joined(found: Sequence[Groups], *, axis: int) -> Groups:
    minimums = [groups.minimums for groups in found if groups.minimums is not None]
    return Groups(
        found[0].format,
        np.concatenate([groups.levels for groups in found], axis=axis),
        np.concatenate([groups.scales for groups in found], axis=axis),
        np.concatenate(minimums, axis=axis) if minimums else None,
    )


class FeedbackQuantizer:
    """Error feedback where the products of a parameter's inputs are known, else the search alone."""

    is_calibrated = True

    def __init__(
        self, quantization: Quantization, threads: ThreadPoolExecutor, products: Products
    ) -> None:
        self._quantization = quantization
        self._threads = threads
        self._products = products
        self._upper: tuple[str, Floats | None] = ("", None)

    def quantize(
        self, spec: ParameterSpec, format: TensorFormat, rows: Floats, first: int
    ) -> Groups:
        """As webbuild.quantization.groups.Quantizer."""

        def stored(scales: Floats) -> Floats:
            return round_scales(scales, self._quantization)

        upper = self._triangle(spec)
        if upper is None:
            return search_groups(rows, format, stored, threads=self._threads)
        parts = [rows[start : start + PART_ROWS] for start in range(0, len(rows), PART_ROWS)]
        rounded = self._threads.map(
            lambda part: round_with_feedback(part, upper, format, stored), parts
        )
        return _joined(list(rounded), axis=0)

    def _triangle(self, spec: ParameterSpec) -> Floats | None:
        """Of the last parameter that was asked for: its rows come a block at a time."""
        if self._upper[0] != spec.name:
            products = self._products(spec)
            self._upper = (spec.name, None if products is None else triangle(products))
        return self._upper[1]
