"""Sorting for sampling on one CPU thread: by the digits of a value's bits, the lowest first."""

from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.cpu.program import accumulator, keep
from webbuild.kernels.interface import float_rank
from webbuild.kernels.program import argument, build, size

DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS
PASSES = 32 // DIGIT_BITS


def argsort_descending(values: Tensor) -> tuple[Tensor, Tensor]:
    """values float32 [b, V], V known, and their indices int32 [b, V], largest first, equals in order."""
    batch, count = values.shape
    out = [Tensor.placeholder((batch, count), dtype) for dtype in ("float32", "int32")]
    ordered, indices = op.tensor_ir_op(sort_program(int(count)), "sort", [values], out)
    return ordered, indices


@lru_cache
def sort_program(count: int) -> tirx.PrimFunc:
    """values float32 [b, count] to ordered float32 and indices int32 of the same shape."""

    def body() -> None:
        batch = size("batch")
        values = argument("values", (batch, count), "float32")
        ordered = argument("ordered", (batch, count), "float32")
        indices = argument("indices", (batch, count), "int32")
        other = T.alloc_buffer((count,), "int32", scope="global")
        places = T.alloc_buffer((DIGITS,), "int32", scope="global")
        with T.serial(0, batch) as row:
            with T.serial(0, count) as at:
                T.buffer_store(indices, T.cast(at, "int32"), [row, at])
            for turn in range(PASSES):
                _count_digits(values, row, count, places, turn)
                # An even number of turns ends where it began.
                with T.serial(0, count) as at:
                    source = indices[row, at] if turn % 2 == 0 else other[at]
                    index = keep(source, "int32", lanes=1)
                    digit = keep(_digit(values[row, index], turn), "int32", lanes=1)
                    place = keep(places[digit], "int32", lanes=1)
                    if turn % 2 == 0:
                        T.buffer_store(other, index, [place])
                    else:
                        T.buffer_store(indices, index, [row, place])
                    T.buffer_store(places, place + 1, [digit])
            with T.serial(0, count) as at:
                T.buffer_store(ordered, values[row, indices[row, at]], [row, at])

    return build("sort", body)


def _count_digits(
    values: tirx.Buffer, row: tirx.Var, count: int, places: tirx.Buffer, turn: int
) -> None:
    """For each digit, how many values have a lower one."""
    with T.serial(0, DIGITS) as digit:
        T.buffer_store(places, T.int32(0), [digit])
    with T.serial(0, count) as at:
        found = keep(_digit(values[row, at], turn), "int32", lanes=1)
        T.buffer_store(places, places[found] + 1, [found])
    total = accumulator(1, start=0, dtype="int32")
    with T.serial(0, DIGITS) as digit:
        here = keep(places[digit], "int32", lanes=1)
        T.buffer_store(places, total[0], [digit])
        T.buffer_store(total, total[0] + here, [0])


def _digit(value: tirx.Expr, turn: int) -> tirx.Expr:
    """A digit of the number that is the smaller, the larger the value is."""
    downwards = float_rank(value) ^ T.int32(0x7FFFFFFF)
    return (downwards >> T.int32(DIGIT_BITS * turn)) & T.int32(DIGITS - 1)
