"""The compiler's phases, from exported model to a module that is ready for code generation."""

from pathlib import Path
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.s_tir import dlight

from webbuild.kernels.direct import DirectReduction
from webbuild.targets import TargetProfile

ALLOC_STORAGE = tvm.ir.Op.get("relax.memory.alloc_storage")


def optimise(
    module: tvm.IRModule,
    profile: TargetProfile,
    *,
    bounds: dict[str, int],
    dump_ir: Path | None = None,
) -> tuple[tvm.IRModule, dict[str, list[str]], dict[str, int]]:
    """Run all phases under the current target.

    `bounds` are upper bounds of symbolic sizes, for memory planning. Returns the module, the names of
    the tensor programs that each function launches, and each function's planned memory in bytes.
    """
    module = _with_bounds(module, bounds)
    launched: dict[str, list[str]] = {}
    memory_usage: dict[str, int] = {}
    for number, (phase, passes) in enumerate(_phases(profile)):
        if phase == "lower":
            launched = launched_programs(module)
        module = tvm.transform.Sequential(passes)(module)
        if phase == "plan-memory":
            memory_usage = planned_memory(module)
        if dump_ir:
            dump_ir.mkdir(parents=True, exist_ok=True)
            path = dump_ir / f"{number:02}-{phase}.py"
            path.write_text(module.script(show_meta=False))
    return module, launched, memory_usage


def _phases(profile: TargetProfile) -> list[tuple[str, list[Any]]]:
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
        ("schedule", [dlight.ApplyDefaultSchedule(*_rules(profile))]),
        ("narrow", [tirx.transform.ForceNarrowIndexToInt32()] if profile.device == "gpu" else []),
        (
            "lower",
            [
                transform.RewriteDataflowReshape(),
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


def _rules(profile: TargetProfile) -> list[Any]:
    direct = DirectReduction(profile.direct_reduction)
    if profile.device == "cpu":
        return [direct]
    gpu = dlight.gpu
    return [
        direct,
        gpu.Matmul(),
        gpu.GEMV(),
        gpu.Reduction(),
        gpu.GeneralReduction(),
        gpu.Fallback(),
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


def planned_memory(module: tvm.IRModule) -> dict[str, int]:
    """For each relax function, the bytes of planned storages whose size is known ahead of time."""
    usage = {}
    for name, function in module.functions_items():
        if not isinstance(function, relax.Function):
            continue
        total = 0

        def visit(expr: relax.Expr) -> None:
            nonlocal total
            if not isinstance(expr, relax.Call) or expr.op != ALLOC_STORAGE:
                return
            size = expr.args[0].values[0]
            total += int(size) if isinstance(size, tirx.IntImm) else 0

        relax.analysis.post_order_visit(function, visit)
        usage[name.name_hint] = total
    return usage
