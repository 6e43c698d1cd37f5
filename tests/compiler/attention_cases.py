"""Attention programs of TVM's paged KV cache against NumPy in float64, on any device."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from webbuild.kernels.interface import KVCacheShape

Array = np.ndarray
# Calls a program with arrays, which get what it wrote.
Call = Callable[..., None]
# Not used by programs for keys that are rotated already.
ROTARY = (0, 1.0, 1e4)
LENGTHS = (5, 1, 20, 37)
PAGE = 16
THETA = 1e4


@dataclass(frozen=True)
class Heads:
    """`dtype` is that of queries, keys and values; differences may be as large as `tolerance`."""

    heads: int
    kv_heads: int
    width: int
    dtype: str = "float32"

    @property
    def tolerance(self) -> float:
        return {"float32": 1e-5, "float16": 2e-3}[self.dtype]

    @property
    def cache_shape(self) -> KVCacheShape:
        return KVCacheShape(
            layers=1,
            query_heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.width,
            rope_theta=THETA,
            rope_scaling={},
            dtype=self.dtype,
        )

    def __str__(self) -> str:
        return f"{self.heads}-on-{self.kv_heads}x{self.width}-{self.dtype}"


class Cases:
    """What the programs for some heads must compute."""

    def __init__(self, heads: Heads, seed: int = 5) -> None:
        self.heads = heads
        self._random = np.random.default_rng(seed)

    def floats(self, *shape: int) -> Array:
        return self._random.standard_normal(shape).astype(self.heads.dtype)

    def queries(self, count: int) -> Array:
        return self.floats(count, self.heads.heads, self.heads.width)

    def keys(self, count: int) -> Array:
        return self.floats(count, self.heads.kv_heads, self.heads.width)

    def ragged(self, call: Call, *, causal: bool) -> None:
        """New tokens of four sequences attend to those of their own."""
        total, bounds = sum(LENGTHS), indptr(LENGTHS)
        q, k, v = self.queries(total), self.keys(total), self.keys(total)
        output, lse = self._outputs(total)
        positions = zeros(total), zeros(len(LENGTHS))
        call(*(q, bounds, k, v, bounds, *positions, output, lse, int(causal), *ROTARY, self._scale))
        parts = [slice(begin, end) for begin, end in pairwise(bounds)]
        self._compare(
            output, lse, [self._attention(q[p], k[p], v[p], causal=causal) for p in parts]
        )

    def paged(self, call: Call) -> None:
        """New tokens of five sequences attend to the pages of their own."""
        new = (3, 18, 1, 2, 2)
        bounds, cached = indptr(new), Pages(self, (*LENGTHS, 600))
        q = self.queries(sum(new))
        output, lse = self._outputs(sum(new))
        call(
            *(q, bounds, *cached.arguments, zeros(len(new)), zeros(sum(new))),
            *(output, lse, 0, *ROTARY, self._scale),
        )
        expected = [
            self._attention(q[begin:end], keys, values, causal=False)
            for (begin, end), keys, values in zip(
                pairwise(bounds), cached.keys, cached.values, strict=True
            )
        ]
        self._compare(output, lse, expected)

    def decode(self, call: Call) -> None:
        """One token of each of several sequences attends to its pages."""
        lengths = (1, 16, 300, 17, 128, 40, 385)
        count, cached = len(lengths), Pages(self, lengths)
        q = self.queries(count)
        output, lse = self._outputs(count)
        call(*(q, *cached.arguments, zeros(count), zeros(count), output, lse, *ROTARY, self._scale))
        expected = [
            self._attention(q[row : row + 1], cached.keys[row], cached.values[row], causal=True)
            for row in range(count)
        ]
        self._compare(output, lse, expected)

    def merge(self, call: Call) -> None:
        """Two results over different keys become one; a very low one counts for nothing."""
        outputs = [self.queries(5) for _ in range(2)]
        states = [self._random.standard_normal((5, self.heads.heads)) for _ in range(2)]
        states[1][0] = -5e4
        given = [array for pair in zip(outputs, states, strict=True) for array in pair]
        weights = [np.exp2(state)[:, :, None] for state in states]
        merged = sum(w * o.astype(np.float64) for w, o in zip(weights, outputs, strict=True))
        total = sum(weights)
        found = [a.astype(np.float32) if a.dtype == np.float64 else a.copy() for a in given]
        call(*found)
        self._compare(found[0], found[1], [(merged / total, np.log2(total[:, :, 0]))])

    def rotary(self, call: Call, theta: float) -> None:
        """Queries and keys are rotated, values are not."""
        positions = np.array([0, 7, 1000], np.int32)
        heads, kv_heads, width = self.heads.heads, self.heads.kv_heads, self.heads.width
        qkv = self.floats(3, heads + 2 * kv_heads, width)
        q = np.zeros((3, heads, width), self.heads.dtype)
        k, v = (np.zeros((3, kv_heads, width), self.heads.dtype) for _ in range(2))
        call(qkv, positions, q, k, v, 1)
        angles = positions[:, None] * theta ** (-np.arange(0, width, 2) / width)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        first, second = np.split(qkv.astype(np.float64), 2, axis=-1)
        rotated = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        # Angles are float32 in the program: 1000 radians have an error of 3e-5.
        bounds = {"rtol": 1e-3, "atol": max(2e-4, self.heads.tolerance)}
        np.testing.assert_allclose(q, rotated[:, :heads], **bounds)
        np.testing.assert_allclose(k, rotated[:, heads : heads + kv_heads], **bounds)
        np.testing.assert_array_equal(v, qkv[:, heads + kv_heads :])

    @property
    def _scale(self) -> float:
        return float(1 / np.sqrt(self.heads.width))

    def _outputs(self, count: int) -> tuple[Array, Array]:
        shape = (count, self.heads.heads, self.heads.width)
        return np.full(shape, np.nan, self.heads.dtype), np.full(shape[:2], np.nan, np.float32)

    def _attention(self, q: Array, k: Array, v: Array, *, causal: bool) -> tuple[Array, Array]:
        """Output [n, h, d] and base-2 log-sum-exp [n, h] of one sequence."""
        output, lse = np.zeros(q.shape), np.zeros(q.shape[:2])
        group = self.heads.heads // self.heads.kv_heads
        for token, head in np.ndindex(*q.shape[:2]):
            seen = len(k) - len(q) + token + 1 if causal else len(k)
            keys, values = (part[:seen, head // group].astype(np.float64) for part in (k, v))
            scores = keys @ q[token, head].astype(np.float64) * self._scale
            powers = np.exp(scores - scores.max())
            output[token, head] = powers @ values / powers.sum()
            lse[token, head] = (scores.max() + np.log(powers.sum())) / np.log(2)
        return output, lse

    def _compare(self, output: Array, lse: Array, expected: list[tuple[Array, Array]]) -> None:
        outputs, states = (np.concatenate(part) for part in zip(*expected, strict=True))
        tolerance = self.heads.tolerance
        np.testing.assert_allclose(output, outputs, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(lse, states, rtol=1e-5, atol=1e-5)


class Pages:
    """Keys and values of several sequences in shuffled pages; what isn't used is NaN."""

    def __init__(self, cases: Cases, lengths: tuple[int, ...]) -> None:
        counts = tuple(-(-length // PAGE) for length in lengths)
        bounds, total = indptr(counts), sum(counts)
        numbers = np.random.default_rng(0).permutation(total + 2)[:total].astype(np.int32)
        shape = (total + 2, 2, cases.heads.kv_heads, PAGE, cases.heads.width)
        pages = np.full(shape, np.nan, cases.heads.dtype)
        last = np.array([(length - 1) % PAGE + 1 if length else 0 for length in lengths], np.int32)
        self.keys = [cases.keys(length) for length in lengths]
        self.values = [cases.keys(length) for length in lengths]
        for sequence, length in enumerate(lengths):
            for token in range(length):
                page = numbers[bounds[sequence] + token // PAGE]
                pages[page, 0, :, token % PAGE] = self.keys[sequence][token]
                pages[page, 1, :, token % PAGE] = self.values[sequence][token]
        self.arguments: tuple[Any, ...] = (pages, bounds, numbers, last)


def indptr(lengths: tuple[int, ...]) -> Array:
    return np.cumsum([0, *lengths]).astype(np.int32)


def zeros(count: int) -> Array:
    return np.zeros(count, np.int32)
