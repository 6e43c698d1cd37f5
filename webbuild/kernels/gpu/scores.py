"""Scores of tokens as programs compare and weigh them."""

from typing import NamedTuple

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.gpu.workgroup import Variable

# Keys of -Infinity, Infinity and NaN, and of places without a token.
LOWEST, HIGHEST, DAMAGED, ABSENT = 0x007FFFFF, 0xFF800000, 0xFFFFFFFF, 0


class Softness(NamedTuple):
    """Twice the inverse of a temperature, and half the difference of scores below which nothing weighs."""

    scale: tirx.Expr
    cutoff: tirx.Expr


def key_of(score: tirx.Expr) -> tirx.Expr:
    """A uint32 for a float32, in their order: equal for both zeros, and for all NaNs.

    It looks at bits alone: shaders may take it that there are no infinities and NaNs.
    """
    word = T.reinterpret("uint32", score)
    size = word & T.uint32(0x7FFFFFFF)
    ordered = T.Select(word == size, word | T.uint32(0x80000000), ~word)
    number = T.Select(size == T.uint32(0), T.uint32(0x80000000), ordered)
    return T.Select(size > T.uint32(0x7F800000), T.uint32(DAMAGED), number)


def bits_of(key: tirx.Expr) -> tirx.Expr:
    """A uint32, the bits of the float32 that has the key."""
    magnitude = key & T.uint32(0x7FFFFFFF)
    return T.Select(magnitude != key, magnitude, ~key)


class Weights:
    """Of scores by their keys: exp((score - highest) / temperature), 0 for little.

    1 for the highest, also where that is infinite.
    """

    def __init__(self, highest: tirx.Expr, softness: Softness) -> None:
        self._highest = highest
        self._half = Variable("float32", _half(highest)).value
        self._softness = softness

    def of(self, key: tirx.Expr) -> tirx.Expr:
        key = Variable("uint32", key).value
        # Of halves: the difference of two finite scores may not be finite.
        difference = Variable("float32", _half(key) - self._half).value
        scale, cutoff = self._softness
        weighs = tirx.all(self._highest != T.uint32(HIGHEST), difference > cutoff)
        power = T.exp(T.max(difference, cutoff) * scale)
        known = T.Select(weighs, power, T.float32(0))
        whole = T.Select(key == self._highest, T.float32(1), known)
        return Variable("float32", T.Select(key > T.uint32(LOWEST), whole, T.float32(0))).value


def _half(key: tirx.Expr) -> tirx.Expr:
    return T.reinterpret("float32", bits_of(key)) * T.float32(0.5)
