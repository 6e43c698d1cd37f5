"""Scales by search: of many candidates, the one whose rounded weights are nearest by weighted squares.

For given levels the best scale has a closed form (least squares), for a given scale the nearest levels are
the best: after the candidates, the two are refitted in turns. Groups are columns here, [32, n]: sums over a
group's inputs are then sums of long rows, which NumPy vectorises.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from webbuild.quantization.formats import GROUP, TensorFormat
from webbuild.quantization.groups import Floats, Groups, grouped

# Columns of 32 inputs that are searched at once: their arrays stay in a core's cache.
BLOCK_GROUPS = 1024
REFITS = 3
# Parts of a group's extent beyond its lowest and highest level.
CUT_ENDS = (0.0, 0.04, 0.08, 0.12)
Rounding = Callable[[Floats], Floats]


@dataclass(frozen=True)
class _Fit:
    """Of n groups: levels [32, n] before the zero point is added; scales, minimums and errors [n]."""

    levels: Floats
    scales: Floats
    minimums: Floats
    errors: Floats

    def better_of(self, other: "_Fit") -> "_Fit":
        """Each group's fit with the smaller error, `self` where they are equal."""
        wins = other.errors < self.errors
        return _Fit(
            np.where(wins, other.levels, self.levels),
            np.where(wins, other.scales, self.scales),
            np.where(wins, other.minimums, self.minimums),
            np.where(wins, other.errors, self.errors),
        )


def search_groups(
    rows: Floats,
    format: TensorFormat,
    stored: Rounding,
    *,
    weights: Floats | None = None,
    threads: ThreadPoolExecutor | None = None,
) -> Groups:
    """`rows` float32 [n, k] in `format`; `weights` float32 [k] are those of the inputs' squares.

    `stored` rounds scales and minimums to what is kept of them. The result doesn't depend on `threads`.
    Groups whose scale is beyond what is kept get an infinite one.
    """
    count, columns = rows.shape
    inputs = np.ones(columns, np.float32) if weights is None else weights
    # Scaled so that products stay far from float32's ends, whatever the activations are.
    inputs = inputs / (inputs.mean() + np.finfo(np.float32).tiny)
    by_group = grouped(rows)
    weight_groups = grouped(inputs[None])
    group_count = by_group.shape[1]
    levels = np.empty(by_group.shape, np.uint8)
    scales = np.empty((count, group_count), np.float32)
    minimums = np.empty((count, group_count), np.float32)

    # Infinite scales make values that are none.
    @np.errstate(invalid="ignore")
    def fit_rows(block: slice) -> None:
        values = _columns(by_group[block])
        shared = np.broadcast_to(weight_groups, by_group.shape)[block]
        fit = _fit(values, _columns(shared), format, stored)
        extent = by_group[block].shape
        fitted = fit.levels + np.float32(format.zero_point)
        levels[block] = fitted.T.reshape(extent).astype(np.uint8)
        scales[block] = fit.scales.reshape(extent[:2])
        minimums[block] = fit.minimums.reshape(extent[:2])

    run = threads.map if threads else map
    list(run(fit_rows, _blocks(count, group_count)))
    return Groups(format, levels, scales, minimums if format.has_minimums else None)


def _blocks(rows: int, groups: int) -> Iterator[slice]:
    step = max(1, BLOCK_GROUPS // groups)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _columns(groups: Floats) -> Floats:
    """[rows, G, 32] to [32, rows * G]."""
    return np.ascontiguousarray(groups.reshape(-1, GROUP).T)


def _fit(values: Floats, weights: Floats, format: TensorFormat, stored: Rounding) -> _Fit:
    """Search among values of magnitude 1: squares of what float32 holds may be beyond it."""
    most, least = values.max(axis=0), values.min(axis=0)
    exponents = np.frexp(np.maximum(most, -least))[1]

    def stored_of_unit(scales: Floats) -> Floats:
        return np.ldexp(stored(np.ldexp(scales, exponents)), -exponents)

    search = _fit_with_minimums if format.has_minimums else _fit_symmetric
    # Scales that are infinite are refused when they are stored.
    with np.errstate(invalid="ignore", over="ignore"):
        fit = search(np.ldexp(values, -exponents), weights, format, stored_of_unit)
    return _Fit(
        fit.levels,
        np.ldexp(fit.scales, exponents),
        np.ldexp(fit.minimums, exponents),
        fit.errors,
    )


def _sum(left: Floats, right: Floats) -> Floats:
    """Sums of products over each group."""
    total: Floats = np.einsum("in,in->n", left, right)
    return total


def _quotient(numerator: Floats | np.float32, denominator: Floats) -> Floats:
    """Zero where the denominator is."""
    out = np.zeros(denominator.shape, np.float32)
    with np.errstate(over="ignore"):
        return np.divide(numerator, denominator, out=out, where=denominator != 0)


def _divisors(format: TensorFormat) -> list[float]:
    """Where a group's largest weight may lie among the levels; negative ones turn the scale's sign.

    Small whole numbers find coarse grids again that the weights were rounded to before. They come first:
    their multiples fit as well, by scales that take more digits than are kept.
    """
    if format.bits == 8:
        return [127.0, -128.0, -127.0, 126.5, 125.5, 124.0, 122.0]
    fine = [step / 4 for step in range(20, 38)]
    return [*range(1, 5), *fine, *(-divisor for divisor in fine)]


def _fit_symmetric(values: Floats, weights: Floats, format: TensorFormat, stored: Rounding) -> _Fit:
    lowest = np.float32(-format.zero_point)
    highest = np.float32((1 << format.bits) - 1 - format.zero_point)
    most, least = values.max(axis=0), values.min(axis=0)
    peaks = np.where(most >= -least, most, least)
    weighted = weights * values
    best_gain = np.full(peaks.shape, -1, np.float32)
    best = np.zeros_like(peaks)
    levels, squares = np.empty_like(values), np.empty_like(values)
    for divisor in _divisors(format):
        inverse = _quotient(np.float32(divisor), peaks)
        _round_into(levels, values, inverse, lowest, highest)
        products = _sum(levels, weighted)
        np.multiply(levels, levels, out=squares)
        totals = _sum(squares, weights)
        gain = _quotient(products * products, totals)
        wins = gain > best_gain
        np.copyto(best_gain, gain, where=wins)
        np.copyto(best, _quotient(products, totals), where=wins)

    def at(scales: Floats) -> _Fit:
        scales = stored(scales)
        fitted = np.empty_like(values)
        _round_into(fitted, values, _quotient(np.float32(1), scales), lowest, highest)
        rest = values - fitted * scales
        return _Fit(fitted, scales, np.zeros_like(scales), _sum(rest * rest, weights))

    fit = at(best)
    for _ in range(REFITS):
        products = _sum(fit.levels, weighted)
        refitted = at(_quotient(products, _sum(fit.levels * fit.levels, weights)))
        fit = fit.better_of(refitted)
    return fit


def _round_between(
    levels: Floats, values: Floats, low: Floats, inverse: Floats, highest: np.float32
) -> None:
    np.subtract(values, low, out=levels)
    _round_into(levels, levels, inverse, np.float32(0), highest)


def _round_into(
    levels: Floats, values: Floats, inverse: Floats, lowest: np.float32, highest: np.float32
) -> None:
    np.multiply(values, inverse, out=levels)
    np.rint(levels, out=levels)
    np.maximum(levels, lowest, out=levels)
    np.minimum(levels, highest, out=levels)


@dataclass(frozen=True)
class _Moments:
    """Least squares of values on levels: what doesn't depend on the levels; all [n] but for the first two."""

    weights: Floats
    weighted: Floats
    total: Floats
    mean: Floats

    @classmethod
    def of(cls, values: Floats, weights: Floats) -> "_Moments":
        total = weights.sum(axis=0)
        mean = _quotient(_sum(values, weights), total)
        return cls(weights, (values - mean) * weights, total, mean)

    def solve(self, levels: Floats) -> tuple[Floats, Floats, Floats]:
        """How much error the best line takes away, its scale and its minimum."""
        sums = _sum(levels, self.weights)
        products = _sum(levels, self.weighted)
        squares = _sum(levels * levels, self.weights) - _quotient(sums * sums, self.total)
        scale = _quotient(products, np.maximum(squares, 0))
        return products * scale, scale, self.mean - scale * _quotient(sums, self.total)


def _fit_with_minimums(
    values: Floats, weights: Floats, format: TensorFormat, stored: Rounding
) -> _Fit:
    highest = np.float32((1 << format.bits) - 1)
    least = values.min(axis=0)
    extent = values.max(axis=0) - least
    moments = _Moments.of(values, weights)
    best_gain = np.full(least.shape, -1, np.float32)
    best_scale, best_minimum = extent / highest, least
    levels = np.empty_like(values)
    for below, above in product(CUT_ENDS, CUT_ENDS):
        low = least + np.float32(below) * extent
        inverse = _quotient(highest, np.float32(1 - below - above) * extent)
        _round_between(levels, values, low, inverse, highest)
        gain, scale, minimum = moments.solve(levels)
        wins = gain > best_gain
        np.copyto(best_gain, gain, where=wins)
        np.copyto(best_scale, scale, where=wins)
        np.copyto(best_minimum, minimum, where=wins)

    def at(scales: Floats, minimums: Floats) -> _Fit:
        scales, minimums = stored(scales), stored(minimums)
        fitted = np.empty_like(values)
        _round_between(fitted, values, minimums, _quotient(np.float32(1), scales), highest)
        rest = values - (fitted * scales + minimums)
        return _Fit(fitted, scales, minimums, _sum(rest * rest, weights))

    fit = at(best_scale, best_minimum)
    for _ in range(REFITS):
        fit = fit.better_of(at(*moments.solve(fit.levels)[1:]))
    return fit
