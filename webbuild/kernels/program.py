"""Builds tensor programs from Python functions."""

from collections.abc import Callable

from tvm import s_tir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T


def build(name: str, body: Callable[[], None]) -> tirx.PrimFunc:
    """The tensor program whose arguments and statements `body` emits."""
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name(name)
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        body()
    program = builder.get()
    # Relax's analyses expect the block that TVM's script parser puts around a program.
    root = s_tir.SBlock([], [], [], "root", program.body)
    return program.with_body(s_tir.SBlockRealize([], tirx.const(True, "bool"), root))


def size(name: str, dtype: str = "int64") -> tirx.Var:
    """An extent that is known at run time."""
    return tirx.Var(name, dtype)


def argument(name: str, shape: tuple[object, ...], dtype: str, **layout: object) -> tirx.Buffer:
    """The program's next argument, a tensor."""
    return T.match_buffer(T.arg(name, T.handle()), shape, dtype, **layout)


def rows_of(lead: list[tirx.Expr | int]) -> tirx.Expr | int:
    """Product of the extents before the last one."""
    rows: tirx.Expr | int = 1
    for extent in lead:
        rows = extent if isinstance(rows, int) and rows == 1 else rows * extent
    return rows
