"""Normalisation and activation of rows; widths that are no multiple of a vector end in single steps."""

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.cpu.program import (
    LANES,
    LOG2_E,
    accumulator,
    exp2,
    fma,
    keep,
    load,
    over_rows,
    splat,
    store,
    total_of,
)
from webbuild.kernels.program import argument, build, rows_of, size


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x float32 [..., W] over rms(x), times weight [W]."""
    width = int(x.shape[-1])
    return _on_rows("rms_norm", rms_norm_program(width, epsilon), width, x, weight)


def gated_silu(gate_up: Tensor) -> Tensor:
    """float32 [..., 2 n], gate and up, to silu(gate) * up [..., n]."""
    width = int(gate_up.shape[-1]) // 2
    return _on_rows("gated_silu", gated_silu_program(width), width, gate_up)


def _on_rows(name: str, program: tirx.PrimFunc, width: int, x: Tensor, *more: Tensor) -> Tensor:
    *lead, depth = x.shape
    rows = rows_of(lead)
    flat = op.reshape(x, (rows, depth))
    out = Tensor.placeholder((rows, width), "float32")
    y = op.tensor_ir_op(program, name, [flat, *more], out=out)
    return op.reshape(y, (*lead, width))


@lru_cache
def rms_norm_program(width: int, epsilon: float) -> tirx.PrimFunc:
    """x float32 [m, width], weight [width] to y [m, width]."""

    def body() -> None:
        m = size("m")
        x = argument("x", (m, width), "float32")
        weight = argument("weight", (width,), "float32")
        y = argument("y", (m, width), "float32")

        def normalise(row: tirx.Var) -> None:
            squares = accumulator()
            rest = accumulator(1)

            def add_squares(at: tirx.Expr) -> None:
                values = keep(load(x, row, at))
                store(squares, fma(values, values, load(squares, 0)), 0)

            def add_square(at: tirx.Expr) -> None:
                T.buffer_store(rest, rest[0] + x[row, at] * x[row, at], [0])

            _along(width, add_squares, add_square)
            mean = (total_of(load(squares, 0)) + rest[0]) * T.float32(1 / width)
            scale = keep(T.float32(1) / T.sqrt(mean + T.float32(epsilon)), lanes=1)

            def write(at: tirx.Expr) -> None:
                store(y, load(x, row, at) * splat(scale) * load(weight, at), row, at)

            def write_one(at: tirx.Expr) -> None:
                T.buffer_store(y, x[row, at] * scale * weight[at], [row, at])

            _along(width, write, write_one)

        over_rows(m, normalise)

    return build("rms_norm", body)


@lru_cache
def gated_silu_program(width: int) -> tirx.PrimFunc:
    """x float32 [m, 2 width] to y [m, width]."""

    def body() -> None:
        m = size("m")
        x = argument("x", (m, 2 * width), "float32")
        y = argument("y", (m, width), "float32")

        def activate(row: tirx.Var) -> None:
            def write(at: tirx.Expr) -> None:
                gate = keep(load(x, row, at))
                sigmoid = splat(1.0) / (splat(1.0) + exp2(gate * splat(-LOG2_E)))
                store(y, gate * sigmoid * load(x, row, width + at), row, at)

            def write_one(at: tirx.Expr) -> None:
                sigmoid = T.float32(1) / (T.float32(1) + T.exp(T.float32(0) - x[row, at]))
                T.buffer_store(y, x[row, at] * sigmoid * x[row, width + at], [row, at])

            _along(width, write, write_one)

        over_rows(m, activate)

    return build("gated_silu", body)


def _along(
    width: int, vector: Callable[[tirx.Expr], None], single: Callable[[tirx.Expr], None]
) -> None:
    """`vector` for each whole vector of a row, `single` for what is left."""
    with T.serial(0, width // LANES) as index:
        vector(index * LANES)
    if width % LANES:
        with T.serial(width // LANES * LANES, width) as at:
            single(at)
