"""The compiler's phases, from exported model to a module that is ready for code generation."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.s_tir import dlight

from webbuild.kernels.interface import Kernels

ALLOC_STORAGE = tvm.ir.Op.get("relax.memory.alloc_storage")
ALLOC_TENSOR = tvm.ir.Op.get("relax.builtin.alloc_tensor")


@dataclass(frozen=True)
class Optimised:
    """A module that is ready for code generation, and what was learnt on the way.

    `launched` has the names of the tensor programs that each function launches, `memory_usage` each
    function's planned memory in bytes, `allocations` the bytes of each of its temporaries and results whose
    size is known ahead of time, or is bounded.
    """

    module: tvm.IRModule
    launched: dict[str, list[str]]
    memory_usage: dict[str, int]
    allocations: dict[str, list[int]]


def optimise(
    module: tvm.IRModule,
    kernels: Kernels,
    *,
    bounds: dict[str, int],
    dump_ir: Path | None = None,
) -> Optimised:
    """Run all phases under the current target; `bounds` are upper bounds of symbolic sizes."""
    module = _with_bounds(module, bounds)
    launched: dict[str, list[str]] = {}
    memory_usage: dict[str, int] = {}
    allocations: dict[str, list[int]] = {}
    for number, (phase, passes) in enumerate(_phases(kernels)):
        module = tvm.transform.Sequential(passes)(module)
        if phase == "lower":
            launched = launched_programs(module)
        if phase == "plan-memory":
            memory_usage = {name: sum(sizes) for name, sizes in _planned_sizes(module).items()}
            allocations = _allocations(module, bounds)
        if dump_ir:
            dump_ir.mkdir(parents=True, exist_ok=True)
            path = dump_ir / f"{number:02}-{phase}.py"
            path.write_text(module.script(show_meta=False))
    return Optimised(module, launched, memory_usage, allocations)


def _phases(kernels: Kernels) -> list[tuple[str, list[Any]]]:
    transform = relax.transform
    return [
        ("export", []),
        ("legalize", [transform.LegalizeOps()]),
        (
            "fuse",
            [
                transform.AnnotateTIROpPattern(),
                transform.FoldConstant(),
                transform.FuseOps(),
                transform.FuseTIR(),
                transform.DeadCodeElimination(),
            ],
        ),
        ("schedule", [dlight.ApplyDefaultSchedule(*kernels.schedule_rules())]),
        ("narrow", [tirx.transform.ForceNarrowIndexToInt32()] if kernels.narrows_indices else []),
        (
            "lower",
            [
                transform.RewriteDataflowReshape(),
                transform.DeadCodeElimination(),
                transform.ToNonDataflow(),
                transform.RemovePurityChecking(),
                transform.CallTIRRewrite(),
            ],
        ),
        ("plan-memory", [transform.StaticPlanBlockMemory()]),
        (
            "finalize",
            [
                transform.LowerAllocTensor(),
                transform.KillAfterLastUse(),
                transform.LowerRuntimeBuiltin(),
                transform.ComputePrimValue(),
                transform.VMShapeLower(),
                order_shape_computations,
                transform.AttachGlobalSymbol(),
            ],
        ),
    ]


@tvm.transform.module_pass(opt_level=0)
def order_shape_computations(module: tvm.IRModule, _: Any) -> tvm.IRModule:
    """Computations of sizes in the order of their slots, so that the same input gives the same library.

    VMShapeLower writes them in the order of a table of addresses. They read slots of earlier functions alone.
    """
    updated = tvm.IRModule(module.functions, attrs=module.attrs)
    for name, function in module.functions_items():
        if name.name_hint.startswith("shape_func") and isinstance(function.body, tirx.SeqStmt):
            stores = sorted(function.body.seq, key=lambda store: int(store.indices[0]))
            updated[name] = function.with_body(tirx.SeqStmt(stores))
    return updated


def _with_bounds(module: tvm.IRModule, bounds: dict[str, int]) -> tvm.IRModule:
    updated = tvm.IRModule(module.functions, attrs=module.attrs)
    for name, function in module.functions_items():
        if isinstance(function, relax.Function):
            updated[name] = function.with_attr("tir_var_upper_bound", bounds)
    return updated


def launched_programs(module: tvm.IRModule) -> dict[str, list[str]]:
    """For each relax function, the tensor programs that it calls or hands to the runtime."""
    launched = {}
    for name, function in module.functions_items():
        if not isinstance(function, relax.Function):
            continue
        found: dict[str, None] = {}

        def visit(expr: relax.Expr, found: dict[str, None] = found) -> None:
            if isinstance(expr, tvm.ir.GlobalVar) and isinstance(module[expr], tirx.PrimFunc):
                found[expr.name_hint] = None

        relax.analysis.post_order_visit(function, visit)
        launched[name.name_hint] = list(found)
    return launched


def _calls(function: relax.Function, op: tvm.ir.Op) -> Iterator[relax.Call]:
    found: list[relax.Call] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and expr.op == op:
            found.append(expr)

    relax.analysis.post_order_visit(function, visit)
    yield from found


def _relax_functions(module: tvm.IRModule) -> Iterator[tuple[str, relax.Function]]:
    for name, function in module.functions_items():
        if isinstance(function, relax.Function):
            yield name.name_hint, function


def _planned_sizes(module: tvm.IRModule) -> dict[str, list[int]]:
    """For each relax function, the bytes of planned storages whose size is known ahead of time."""
    return {
        name: [
            int(size)
            for call in _calls(function, ALLOC_STORAGE)
            for size in call.args[0].values
            if isinstance(size, tirx.IntImm)
        ]
        for name, function in _relax_functions(module)
    }


def _allocations(module: tvm.IRModule, bounds: dict[str, int]) -> dict[str, list[int]]:
    """Planned storages, and the tensors outside of the plan: a function's results."""
    sizes = _planned_sizes(module)
    for name, function in _relax_functions(module):
        for call in _calls(function, ALLOC_TENSOR):
            bounded = [_upper_bound(extent, bounds) for extent in call.args[0].values]
            extents = [extent for extent in bounded if extent is not None]
            if len(extents) == len(bounded):
                element = tvm.DataType(call.args[1].value).itemsize
                sizes[name].append(math.prod(extents) * element)
    return sizes


def _upper_bound(extent: tirx.Expr, bounds: dict[str, int]) -> int | None:
    if isinstance(extent, tirx.IntImm):
        return int(extent)
    return bounds.get(extent.name) if isinstance(extent, tirx.Var) else None
