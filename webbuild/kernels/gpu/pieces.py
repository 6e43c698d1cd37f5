"""Weights with the rows of a vocabulary in pieces, none of which is more than a kernel can bind."""

from collections.abc import Sequence

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.plain import dequantize, stored_parameters
from webbuild.kernels.program import argument, build, size
from webbuild.quantization.formats import TensorFormat

THREADS = 256


def pieces_of(weight: Sequence[Tensor], format: TensorFormat) -> list[Sequence[Tensor]]:
    """The tensors of each piece."""
    count = len(stored_parameters(1, 1, format, dtype="float32", scale_dtype="float32"))
    return [weight[first : first + count] for first in range(0, len(weight), count)]


def take_of_pieces(
    weight: Sequence[Tensor], ids: Tensor, columns: int, format: TensorFormat, dtype: str
) -> Tensor:
    """Rows `ids` int32 [n], [n, columns] of `dtype`."""
    pieces = [
        [(tuple(map(int, tensor.shape)), str(tensor.dtype)) for tensor in piece]
        for piece in pieces_of(weight, format)
    ]
    out = Tensor.placeholder((ids.shape[0], columns), dtype)
    return op.tensor_ir_op(
        take_program(pieces, columns, format, dtype), "take", [ids, *weight], out
    )


def take_program(
    pieces: Sequence[Sequence[tuple[tuple[int, ...], str]]],
    columns: int,
    format: TensorFormat,
    dtype: str,
) -> tirx.PrimFunc:
    """ids [n], the tensors, by shape and type, of all pieces, and the result: a kernel for each piece."""

    def emit() -> None:
        n = size("n")
        ids = argument("ids", (n,), "int32")
        buffers = [
            [argument(f"weight_{number}_{place}", *tensor) for place, tensor in enumerate(piece)]
            for number, piece in enumerate(pieces)
        ]
        out = argument("out", (n, columns), dtype)
        first = 0
        for piece in buffers:
            rows = int(piece[0].shape[0])
            with (
                T.thread_binding(0, n, thread="blockIdx.x") as token,
                T.thread_binding(0, -(-columns // THREADS), thread="blockIdx.y") as block,
                T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
            ):
                row, k = T.bind(ids[token] - first), T.bind(block * THREADS + thread)
                with T.If(tirx.all(row >= 0, row < rows, k < columns)), T.Then():
                    value = dequantize(piece, row, k, format) if format.bits else piece[0][row, k]
                    T.buffer_store(out, T.Cast(dtype, value), [token, k])
            first += rows

    return build("take", emit)
