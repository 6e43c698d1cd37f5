"""A schedule rule without barriers: each thread computes its outputs' reductions alone.

Where reductions are short, synchronising a workgroup costs more than it saves, above all on software
adapters, and a kernel that is a plain loop compiles fast. Rows of a prefill are taken a few at a time, so
that a weight is dequantised once for all of them.
"""

from tvm import s_tir, tirx
from tvm.s_tir.dlight.base import ScheduleRule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.target import Target

THREADS = 64
ROWS = 4
UNROLL = 8
# The block of webbuild.kernels.linear that multiplies.
MATMUL = "matmul"


class DirectReduction(ScheduleRule):
    """Schedules functions of injective and reduction blocks; the longest reduction is `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def apply(self, func: tirx.PrimFunc, target: Target, _: bool) -> s_tir.Schedule | None:
        root = getattr(func.body, "block", None)
        if root is None or root.name_hint != "root":
            return None
        sch = s_tir.Schedule(func)
        blocks = sch.get_child_blocks(sch.get_sblock("root"))
        if not self._applies(sch, blocks):
            return None
        on_gpu = target.kind.name != "llvm"
        reductions = [block for block in blocks if _is_reduction(sch, block)]
        if len(reductions) == 1 and _has_open_rows(sch, reductions[0]):
            _schedule_tiles(sch, reductions[0], on_gpu=on_gpu)
        else:
            _schedule_single(sch, blocks, reductions, on_gpu=on_gpu)
        return sch

    def _applies(self, sch: s_tir.Schedule, blocks: list[SBlockRV]) -> bool:
        kinds = {var.iter_type for block in blocks for var in sch.get(block).iter_vars}
        lengths = [_reduction_length(sch, b) for b in blocks if _is_reduction(sch, b)]
        return (
            kinds <= {tirx.IterVar.DataPar, tirx.IterVar.CommReduce}
            and all(len(sch.get(block).writes) == 1 for block in blocks)
            and bool(lengths)
            and all(0 < length <= self.limit for length in lengths)
        )


def _reduce_axes(sch: s_tir.Schedule, block: SBlockRV) -> list[bool]:
    return [var.iter_type == tirx.IterVar.CommReduce for var in sch.get(block).iter_vars]


def _is_reduction(sch: s_tir.Schedule, block: SBlockRV) -> bool:
    return any(_reduce_axes(sch, block))


def _reduction_length(sch: s_tir.Schedule, block: SBlockRV) -> int:
    """Product of the reduced extents, 0 if one of them is only known at run time."""
    length = 1
    for var, reduced in zip(sch.get(block).iter_vars, _reduce_axes(sch, block), strict=True):
        if reduced:
            length *= int(var.dom.extent) if isinstance(var.dom.extent, tirx.IntImm) else 0
    return length


def _has_open_rows(sch: s_tir.Schedule, block: SBlockRV) -> bool:
    """Whether `block` is a matrix product with a number of rows that is known at run time only."""
    extents = [var.dom.extent for var in sch.get(block).iter_vars[:-2]]
    return sch.get(block).name_hint == MATMUL and not all(
        isinstance(extent, tirx.IntImm) for extent in extents
    )


def _inline_all_but(sch: s_tir.Schedule, kept: list[str]) -> None:
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if sch.get(block).name_hint not in kept:
            sch.compute_inline(block)


def _schedule_tiles(sch: s_tir.Schedule, matmul: SBlockRV, *, on_gpu: bool) -> None:
    """ROWS rows of one column to a thread; rows are padded, so that a tile is always whole."""
    variables = sch.get(matmul).iter_vars
    sch.pad_einsum(
        matmul, [1 if isinstance(v.dom.extent, tirx.IntImm) else ROWS for v in variables]
    )
    output = sch.get_child_blocks(sch.get_sblock("root"))[-1]
    _inline_all_but(sch, [MATMUL, sch.get(output).name_hint])
    *lead, column, _ = sch.get_loops(matmul)
    thread = _bind(sch, lead, column, rows=ROWS, on_gpu=on_gpu)
    sch.set_scope(matmul, 0, "local")
    sch.reverse_compute_at(output, thread, preserve_unit_loops=True)
    _order_reduction(sch, matmul, thread)


def _schedule_single(
    sch: s_tir.Schedule, blocks: list[SBlockRV], reductions: list[SBlockRV], *, on_gpu: bool
) -> None:
    """One output to a thread, with all the reductions that it depends on."""
    output = blocks[-1]
    if output in reductions:
        output = sch.cache_write(output, 0, "local")
    for block in blocks:
        if block not in reductions and block != output:
            sch.compute_inline(block)
    *lead, column = sch.get_loops(output)
    thread = _bind(sch, lead, column, rows=1, on_gpu=on_gpu)
    for block in reversed(reductions):
        sch.compute_at(block, thread, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
        _order_reduction(sch, block, thread)


def _bind(
    sch: s_tir.Schedule, lead: list[LoopRV], column: LoopRV, *, rows: int, on_gpu: bool
) -> LoopRV:
    """Spread `lead` by tiles of `rows`, and `column`, over the device; returns the thread's loop."""
    row = sch.fuse(*lead) if lead else sch.add_unit_loop(column)
    outer, inner = sch.split(row, [None, rows])
    sch.reorder(outer, column, inner)
    sch.unroll(inner)
    if not on_gpu:
        outputs = sch.fuse(outer, column)
        sch.parallel(outputs)
        return outputs
    workgroup, thread = sch.split(column, [None, THREADS])
    sch.bind(outer, "blockIdx.y")
    sch.bind(workgroup, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return thread


def _order_reduction(sch: s_tir.Schedule, block: SBlockRV, thread: LoopRV) -> None:
    """Reduce outside, rows inside; packed words and their scales are read once for UNROLL values."""
    loops = sch.get_loops(block)
    below = loops[[sch.get(loop).loop_var for loop in loops].index(sch.get(thread).loop_var) + 1 :]
    reduced = _reduce_axes(sch, block)[-1]
    if not reduced or len(below) < 1:
        return
    *rows, depth = below
    extent = int(sch.get(depth).extent)
    if extent % UNROLL == 0:
        chunk, step = sch.split(depth, [None, UNROLL])
        sch.reorder(chunk, step, *rows)
        if all(int(sch.get(row).extent) == 1 for row in rows):
            sch.unroll(step)
    else:
        chunk = depth
        sch.reorder(chunk, *rows)
    for row in rows:
        sch.unroll(row)
    for index, read in enumerate(sch.get(block).reads):
        if _is_packed(sch, block, read.source) and extent % UNROLL == 0:
            copy = sch.cache_read(block, index, "local")
            sch.compute_at(copy, chunk, preserve_unit_loops=True)
    sch.decompose_reduction(block, chunk)


def _is_packed(sch: s_tir.Schedule, block: SBlockRV, buffer: tirx.Buffer) -> bool:
    """Whether a read of `buffer` serves several steps of the reduction: packed words, group scales."""
    if str(buffer.dtype) == "uint32":
        return True
    words = [r.source for r in sch.get(block).reads if str(r.source.dtype) == "uint32"]
    return bool(words) and len(buffer.shape) == 2 and _same(buffer.shape[0], words[0].shape[0])


def _same(left: tirx.Expr, right: tirx.Expr) -> bool:
    return isinstance(left, tirx.IntImm) and isinstance(right, tirx.IntImm) and left == right
