"""Which tokens may be drawn, and which of them is; over a whole vocabulary, in single precision."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from mlc_edge.engine.protocol import SamplingSettings

# Elements of which one sum is kept: few enough that adding them loses nothing in single precision.
BLOCK = 256
# Dividing by a lower temperature takes double precision, and by a lower one yet is the same as by this.
LOWEST_SINGLE, LOWEST_DOUBLE = 1e-30, 1e-300
# The first token alone has a larger share of any vocabulary.
LOWEST_TOP_P = 1e-12
# So many scores are sorted rather than searched.
FEW = 2048
# Of more, so many tell about where a border lies: within so many standard errors.
SAMPLE = 1024
ERRORS = 2
# Less than any weight.
TINY = 1e-300

Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]
Weigh = Callable[[Scores], Scores]


def draw(scores: Scores, highest: float, settings: SamplingSettings, *, u: float) -> int:
    """The token that the number `u` in [0, 1) draws from float32 [vocabulary]; see Sampler.

    `highest` is the largest of the scores; temperature is not 0.
    """
    ids = None
    if settings.top_k is not None and settings.top_k < len(scores):
        ids = _first_few(scores, settings.top_k)
        scores = scores[ids]
    weigh = partial(exponentials, highest=highest, temperature=settings.temperature)
    weights = weigh(scores)
    if settings.top_p < 1:
        span = _Span(scores, weigh, weights)
        goal = max(settings.top_p, LOWEST_TOP_P) * span.sum
        # All that are lighter than this together don't weigh what may be left out.
        heavy = weights >= np.float32((1 - settings.top_p) * span.sum / len(weights))
        if np.count_nonzero(heavy) < len(weights) // 2:
            span, places = span.where(heavy), np.flatnonzero(heavy)
            ids = places if ids is None else ids[places]
        weights = span.weights * _numbers(_first(span, goal))
    if settings.min_p > 0:
        weights *= _numbers(weights >= np.float32(settings.min_p))
    place = _pick(weights, u)
    return place if ids is None else int(ids[place])


def exponentials(scores: Scores, highest: float, temperature: float) -> Scores:
    """exp((score - highest) / temperature): 1 for the highest, also where that is infinite."""
    if highest == np.inf:
        return _numbers(scores == highest)
    precision = np.float32 if temperature >= LOWEST_SINGLE else np.float64
    with np.errstate(over="ignore"):
        weights = np.subtract(scores, precision(highest), dtype=precision)
        if temperature != 1:
            weights /= precision(max(temperature, LOWEST_DOUBLE))
        return np.exp(weights, out=weights).astype(np.float32, copy=False)


def total(weights: Scores) -> float:
    """Their sum."""
    return float(_block_sums(weights).sum(dtype=np.float64))


def largest(scores: Scores, count: int) -> Ids:
    """Ids of the `count` highest scores, highest first, the lower id first among equals."""
    if not count:
        return np.empty(0, np.int64)
    ids = _first_few(scores, min(count, len(scores)))
    return ids[np.argsort(-scores[ids], kind="stable")]


def _first_few(scores: Scores, count: int) -> Ids:
    """Ids of the first `count` tokens by score, in order of id."""
    maxima = np.maximum.reduceat(scores, np.arange(0, len(scores), BLOCK))
    if count > len(maxima):
        return np.flatnonzero(_first(_Span(scores, np.ones_like), count))
    # Each of the highest maxima stands for one score at least that is as high.
    ids = np.flatnonzero(scores >= np.partition(maxima, -count)[-count])
    return ids[_first(_Span(scores[ids], np.ones_like), count)]


def _numbers(mask: Mask) -> Scores:
    return mask.astype(np.float32)


def _block_sums(weights: Scores) -> Scores:
    return np.add.reduceat(weights, np.arange(0, len(weights), BLOCK))


def _pick(weights: Scores, u: float) -> int:
    """The first place whose running sum exceeds `u` times the sum of all."""
    blocks = np.cumsum(_block_sums(weights), dtype=np.float64)
    goal = u * blocks[-1]
    block = min(int(np.searchsorted(blocks, goal, side="right")), len(blocks) - 1)
    start = block * BLOCK
    within = weights[start : start + BLOCK]
    sums = np.cumsum(within, dtype=np.float64) + (blocks[block - 1] if block else 0)
    place = int(np.searchsorted(sums, goal, side="right"))
    # A sum by blocks may be a rounding error above the same sum one by one.
    return start + min(place, int(np.flatnonzero(within)[-1]))


class _Span:
    """Neighbours in the order of scores, in order of id, and what they weigh."""

    def __init__(self, scores: Scores, weigh: Weigh, weights: Scores | None = None) -> None:
        self.scores = scores
        self.weights = weigh(scores) if weights is None else weights
        self.sum = total(self.weights)
        self._weigh = weigh

    def where(self, mask: Mask) -> "_Span":
        ids = np.flatnonzero(mask)
        return _Span(self.scores[ids], self._weigh, self.weights[ids])

    def bracket(self, below: float) -> tuple[np.float32, np.float32]:
        """Two of the scores, between which the sum of the lighter weights may reach `below`."""
        step = len(self.scores) // SAMPLE + 1
        scores = np.sort(self.scores[::step])
        sums = np.cumsum(self._weigh(scores), dtype=np.float64) * step
        error = ERRORS / math.sqrt(np.searchsorted(sums, below) + 1)
        goals = max(below, 0) * np.array([1 - error, 1 + error])
        low, high = np.minimum(np.searchsorted(sums, goals), len(sums) - 1)
        return scores[low], scores[high]

    def border(self, goal: float) -> "_Border":
        """Where the highest scores' weights reach `goal`."""
        scores = np.sort(self.scores)[::-1]
        sums = np.cumsum(self._weigh(scores), dtype=np.float64)
        last = min(int(np.searchsorted(sums, goal)), len(scores) - 1)
        above = int(np.count_nonzero(scores > scores[last]))
        equals = int(np.count_nonzero(scores == scores[last]))
        return _Border(scores[last], equals, last + 1 - above)


@dataclass(frozen=True)
class _Border:
    """The lowest of the first scores, how many equal it, and how many of these are among the first."""

    score: np.float32
    equals: int
    first: int


def _first(span: _Span, goal: float) -> Mask:
    """The first tokens by score, as few as together weigh `goal`."""
    border = _find_border(span, goal)
    first = span.scores >= border.score
    if border.first < border.equals:
        first[np.flatnonzero(span.scores == border.score)[border.first :]] = False
    return first


def _find_border(span: _Span, goal: float) -> _Border:
    """Where the highest scores' weights reach `goal`; narrows a large span down until it is small.

    Each part is smaller than the span, which has both scores of the bracket.
    """
    while len(span.scores) > FEW:
        low, high = span.bracket(span.sum - goal)
        over = span.scores > high
        weight = total(span.weights * _numbers(over))
        if weight >= goal:
            span = span.where(over)
            continue
        goal -= weight
        middle = span.where(over ^ (span.scores > low))
        if middle.sum >= goal:
            span = middle
            continue
        goal -= middle.sum
        equals, lower = span.where(span.scores == low), span.where(span.scores < low)
        if equals.sum >= goal or not len(lower.scores):
            count = len(equals.scores)
            return _Border(low, count, math.ceil(goal / max(equals.sum / count, TINY)))
        span, goal = lower, goal - equals.sum
    return span.border(goal)
