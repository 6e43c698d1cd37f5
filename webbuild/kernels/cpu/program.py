"""The vector arithmetic that a CPU's tensor programs share."""

import math
from collections.abc import Callable

from tvm import tirx
from tvm.script.ir_builder import tirx as T

LANES = 16
LOG2_E = math.log2(math.e)
# Fewer rows than this are done by one thread: waking the others takes longer.
PARALLEL_ROWS = 8
# Taylor coefficients of 2^f: for |f| <= 1/2 the first one left out is below float32's resolution.
EXP2_COEFFICIENTS = tuple(math.log(2) ** k / math.factorial(k) for k in range(7))


def over_rows(rows: tirx.Expr, body: Callable[[tirx.Var], None]) -> None:
    """`body` for each row, on all threads where there are many rows."""
    with T.If(rows < PARALLEL_ROWS):
        with T.Then(), T.serial(0, rows) as row:
            body(row)
        with T.Else(), T.parallel(0, rows) as row:
            body(row)


def load(buffer: tirx.Buffer, *index: object, lanes: int = LANES) -> tirx.Expr:
    """`lanes` elements from `index` on along the last axis."""
    *lead, first = index
    return buffer[(*lead, T.ramp(first, 1, lanes) if lanes > 1 else first)]


def store(buffer: tirx.Buffer, value: tirx.Expr, *index: object, lanes: int = LANES) -> None:
    """Write a vector from `index` on along the last axis."""
    *lead, first = index
    T.buffer_store(buffer, value, [*lead, T.ramp(first, 1, lanes) if lanes > 1 else first])


def splat(value: object, lanes: int = LANES) -> tirx.Expr:
    """A vector of equal elements; Python numbers become float32."""
    return T.broadcast(T.float32(value) if isinstance(value, float | int) else value, lanes)


def local_buffer(shape: tuple[int, ...], dtype: str = "float32") -> tirx.Buffer:
    """Memory of one thread, in registers or on its stack up to 1 KiB.

    TVM takes buffers of the scope "local" from a pool instead, at each use.
    """
    return T.alloc_buffer(shape, dtype, scope="global")


def accumulator(lanes: int = LANES, start: float = 0.0, dtype: str = "float32") -> tirx.Buffer:
    """A vector in registers, to be read and written as `load(a, 0)` and `store(a, v, 0)`."""
    buffer = local_buffer((lanes,), dtype)
    value = tirx.const(start, dtype)
    store(buffer, T.broadcast(value, lanes) if lanes > 1 else value, 0, lanes=lanes)
    return buffer


def fma(a: tirx.Expr, b: tirx.Expr, c: tirx.Expr, lanes: int = LANES) -> tirx.Expr:
    """a * b + c, rounded once: the same on every target and in every batch."""
    return T.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.fma", a, b, c)


def absolute(value: tirx.Expr) -> tirx.Expr:
    return T.call_llvm_pure_intrin(f"float32x{LANES}", "llvm.fabs", value)


def nearest(value: tirx.Expr) -> tirx.Expr:
    """To whole numbers, ties to even."""
    return T.call_llvm_pure_intrin(f"float32x{LANES}", "llvm.rint", value)


def keep(value: tirx.Expr, dtype: str = "float32", lanes: int = LANES) -> tirx.Expr:
    """`value` in a register of its own: a name alone would be replaced by its expression, at each use."""
    buffer = local_buffer((lanes,), dtype)
    store(buffer, value, 0, lanes=lanes)
    return load(buffer, 0, lanes=lanes)


def largest_of(value: tirx.Expr) -> tirx.Expr:
    """The largest of a float32 vector's elements."""
    return keep(T.call_llvm_pure_intrin("float32", "llvm.vector.reduce.fmax", value), lanes=1)


def total_of(value: tirx.Expr, dtype: str = "float32") -> tirx.Expr:
    """The sum of a vector's elements, halves added until one is left."""
    buffer = local_buffer((LANES,), dtype)
    store(buffer, value, 0)
    lanes = LANES // 2
    while lanes > 1:
        both = load(buffer, 0, lanes=lanes) + load(buffer, lanes, lanes=lanes)
        store(buffer, both, 0, lanes=lanes)
        lanes //= 2
    return keep(buffer[0] + buffer[1], dtype, lanes=1)


def exp2(value: tirx.Expr) -> tirx.Expr:
    """2 to the power of float32 vectors, within 2 units of the last place; 2^-126 is the least."""
    x = keep(T.max(value, splat(-126.0)))
    whole = keep(nearest(x))
    fraction = keep(x - whole)
    power = splat(EXP2_COEFFICIENTS[-1])
    for coefficient in reversed(EXP2_COEFFICIENTS[:-1]):
        power = fma(power, fraction, splat(coefficient))
    bits = (T.cast(whole, f"int32x{LANES}") + splat(T.int32(127))) << splat(T.int32(23))
    return keep(power * T.reinterpret(f"float32x{LANES}", bits))
