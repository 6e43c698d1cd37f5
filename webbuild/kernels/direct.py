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
# A prefill's tile: each value read serves a row or a column of it.
ROWS = 4
COLUMNS = 4
UNROLL = 8
# Several threads would compute the same sum; of a matrix product each output has one of its own.
LONGEST_SUM = 1024
LONGEST_PRODUCT = 1 << 20
# Blocks of webbuild.kernels.plain.
MATMUL = "matmul"
DEQUANTIZE = "dequantize"


class DirectReduction(ScheduleRule):
    """Schedules functions of injective and reduction blocks."""

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
        names = [_name_of(sch, block) for block in blocks]
        limit = LONGEST_PRODUCT if MATMUL in names else LONGEST_SUM
        return (
            kinds <= {tirx.IterVar.DataPar, tirx.IterVar.CommReduce}
            and all(len(sch.get(block).writes) == 1 for block in blocks)
            and bool(lengths)
            and all(0 < length <= limit for length in lengths)
        )


def _scratch_scope(on_gpu: bool) -> str:
    """Where a thread's few values lie: on a CPU "local" buffers come from a pool at each use."""
    return "local" if on_gpu else "global"


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


def _name_of(sch: s_tir.Schedule, block: SBlockRV) -> str:
    return str(sch.get(block).name_hint)


def _inline_all_but(sch: s_tir.Schedule, kept: list[str]) -> None:
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if sch.get(block).name_hint not in kept:
            sch.compute_inline(block)


def _schedule_tiles(sch: s_tir.Schedule, matmul: SBlockRV, *, on_gpu: bool) -> None:
    """A tile of ROWS by COLUMNS to a thread; rows are padded, so that a tile is always whole."""
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    variables = sch.get(matmul).iter_vars
    sch.pad_einsum(
        matmul, [1 if isinstance(v.dom.extent, tirx.IntImm) else ROWS for v in variables]
    )
    before = {_name_of(sch, b) for b in blocks}
    *others, output = sch.get_child_blocks(sch.get_sblock("root"))
    padded = next(b for b in others if _name_of(sch, b) not in before)
    dequantize = [b for b in others if _name_of(sch, b) == DEQUANTIZE]
    kept = [matmul, output, padded, *dequantize]
    _inline_all_but(sch, [_name_of(sch, block) for block in kept])
    *lead, column, _ = sch.get_loops(matmul)
    width = int(sch.get(column).extent)
    columns = COLUMNS if width % COLUMNS == 0 else 1
    thread = _bind(sch, lead, column, tile=(ROWS, columns), on_gpu=on_gpu)
    scope = _scratch_scope(on_gpu)
    sch.set_scope(matmul, 0, scope)
    sch.reverse_compute_at(output, thread, preserve_unit_loops=True)
    chunk, step = _order_reduction(sch, matmul, thread)
    for block, loop in ((padded, chunk), *((block, step) for block in dequantize)):
        sch.compute_at(block, loop, preserve_unit_loops=True)
        sch.set_scope(block, 0, scope)
    for block in dequantize:
        _read_packed_once(sch, block, (chunk, step), scope)


def _schedule_single(
    sch: s_tir.Schedule, blocks: list[SBlockRV], reductions: list[SBlockRV], *, on_gpu: bool
) -> None:
    """One output to a thread, with all the reductions that it depends on."""
    output, scope = blocks[-1], _scratch_scope(on_gpu)
    if output in reductions:
        output = sch.cache_write(output, 0, scope)
    for block in blocks:
        if block not in reductions and block != output:
            sch.compute_inline(block)
    *lead, column = sch.get_loops(output)
    thread = _bind(sch, lead, column, tile=(1, 1), on_gpu=on_gpu)
    for block in reversed(reductions):
        sch.compute_at(block, thread, preserve_unit_loops=True)
        sch.set_scope(block, 0, scope)
        loops = _order_reduction(sch, block, thread)
        _read_packed_once(sch, block, loops, scope)


def _bind(
    sch: s_tir.Schedule, lead: list[LoopRV], column: LoopRV, *, tile: tuple[int, int], on_gpu: bool
) -> LoopRV:
    """Spread rows (`lead`) and columns over the device by tiles; returns the thread's loop."""
    row = sch.fuse(*lead) if lead else sch.add_unit_loop(column)
    row, inner_row = sch.split(row, [None, tile[0]])
    column, inner_column = sch.split(column, [None, tile[1]])
    sch.reorder(row, column, inner_row, inner_column)
    sch.unroll(inner_row)
    sch.unroll(inner_column)
    if not on_gpu:
        outputs = sch.fuse(row, column)
        sch.parallel(outputs)
        return outputs
    workgroup, thread = sch.split(column, [None, THREADS])
    sch.bind(row, "blockIdx.y")
    sch.bind(workgroup, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return thread


def _order_reduction(sch: s_tir.Schedule, block: SBlockRV, thread: LoopRV) -> tuple[LoopRV, LoopRV]:
    """Reduce outside, rows inside; returns the loops over chunks of UNROLL values and over values."""
    loops = sch.get_loops(block)
    below = loops[[sch.get(loop).loop_var for loop in loops].index(sch.get(thread).loop_var) + 1 :]
    *rows, depth = below
    chunk, step = depth, depth
    if int(sch.get(depth).extent) % UNROLL == 0:
        chunk, step = sch.split(depth, [None, UNROLL])
        sch.unroll(step)
        sch.reorder(chunk, step, *rows)
    else:
        sch.reorder(depth, *rows)
    for row in rows:
        sch.unroll(row)
    sch.decompose_reduction(block, chunk)
    return chunk, step


def _read_packed_once(
    sch: s_tir.Schedule, block: SBlockRV, loops: tuple[LoopRV, LoopRV], scope: str
) -> None:
    """Keep a chunk's packed word and its scale in registers; `loops` are over chunks and over values."""
    chunk, step = loops
    if chunk is step:
        return
    for index, read in enumerate(sch.get(block).reads):
        if _is_packed(sch, block, read.source):
            copy = sch.cache_read(block, index, scope)
            sch.compute_at(copy, chunk, preserve_unit_loops=True)


def _is_packed(sch: s_tir.Schedule, block: SBlockRV, buffer: tirx.Buffer) -> bool:
    """Whether a read of `buffer` serves several steps of the reduction: packed words, group scales."""
    if str(buffer.dtype) == "uint32":
        return True
    words = [r.source for r in sch.get(block).reads if str(r.source.dtype) == "uint32"]
    return bool(words) and len(buffer.shape) == 2 and _same(buffer.shape[0], words[0].shape[0])


def _same(left: tirx.Expr, right: tirx.Expr) -> bool:
    return isinstance(left, tirx.IntImm) and isinstance(right, tirx.IntImm) and left == right
