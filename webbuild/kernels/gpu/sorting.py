"""Sorting for sampling on GPUs: runs are sorted by counting, then merged by binary search, without barriers.

Each thread finds the place of one element alone. TVM's own GPU sort launches in three dimensions, for which
its WebGPU code generator has no form.
"""

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script import tirx as T

from webbuild.kernels.interface import float_rank

THREADS = 64
# Elements of a first run, each compared with all others of it.
RUN = 64
# Runs that a merge makes one of: more take fewer launches and more searches.
FAN_IN = 4


def argsort_descending(values: Tensor) -> tuple[Tensor, Tensor]:
    """values float32 [b, V], V known, and their indices int32 [b, V], largest first, equals in order."""
    batch, count = values.shape
    out = [Tensor.placeholder((batch, count), dtype) for dtype in ("float32", "int32")]
    ordered, indices = op.tensor_ir_op(_sort_runs(count), "sort_runs", [values], out)
    length = RUN
    while length < count:
        merge = _merge_runs(count, length)
        ordered, indices = op.tensor_ir_op(merge, f"merge_runs_{length}", [ordered, indices], out)
        length *= FAN_IN
    return ordered, indices


def _sort_runs(count: int) -> tirx.PrimFunc:
    """Sorts each RUN elements on their own."""

    @T.prim_func(s_tir=True, private=True)
    def sort_runs(values_handle: T.handle, ordered_handle: T.handle, indices_handle: T.handle):
        T.func_attr({"op_pattern": 8, "tirx.is_scheduled": True, "tirx.noalias": True})
        batch = T.int64()
        values = T.match_buffer(values_handle, (batch, count), "float32")
        ordered = T.match_buffer(ordered_handle, (batch, count), "float32")
        indices = T.match_buffer(indices_handle, (batch, count), "int32")
        for by in T.thread_binding(batch, thread="blockIdx.y"):
            for bx in T.thread_binding(T.ceildiv(count, THREADS), thread="blockIdx.x"):
                for tx in T.thread_binding(THREADS, thread="threadIdx.x"):
                    with T.sblock("sort_runs"):
                        T.reads()
                        T.writes()
                        rank = T.sblock_alloc_buffer((2,), "int32", scope="local")
                        place = T.sblock_alloc_buffer((1,), "int32", scope="local")
                        if bx * THREADS + tx < count:
                            at: T.let[T.int32] = bx * THREADS + tx
                            begin: T.let[T.int32] = at // RUN * RUN
                            rank[0] = float_rank(values[by, at])
                            place[0] = begin
                            for step in T.serial(T.min(RUN, count - begin)):
                                rank[1] = float_rank(values[by, begin + step])
                                if rank[1] > rank[0] or (rank[1] == rank[0] and begin + step < at):
                                    place[0] += 1
                            ordered[by, place[0]] = values[by, at]
                            indices[by, place[0]] = at

    return sort_runs


def _merge_runs(count: int, length: int) -> tirx.PrimFunc:
    """Makes one run of each FAN_IN runs of `length` elements."""
    steps = length.bit_length()

    @T.prim_func(s_tir=True, private=True)
    def merge_runs(
        values_handle: T.handle,
        sources_handle: T.handle,
        ordered_handle: T.handle,
        indices_handle: T.handle,
    ):
        T.func_attr({"op_pattern": 8, "tirx.is_scheduled": True, "tirx.noalias": True})
        batch = T.int64()
        values = T.match_buffer(values_handle, (batch, count), "float32")
        sources = T.match_buffer(sources_handle, (batch, count), "int32")
        ordered = T.match_buffer(ordered_handle, (batch, count), "float32")
        indices = T.match_buffer(indices_handle, (batch, count), "int32")
        for by in T.thread_binding(batch, thread="blockIdx.y"):
            for bx in T.thread_binding(T.ceildiv(count, THREADS), thread="blockIdx.x"):
                for tx in T.thread_binding(THREADS, thread="threadIdx.x"):
                    with T.sblock("merge_runs"):
                        T.reads()
                        T.writes()
                        rank = T.sblock_alloc_buffer((2,), "int32", scope="local")
                        place = T.sblock_alloc_buffer((1,), "int32", scope="local")
                        low = T.sblock_alloc_buffer((1,), "int32", scope="local")
                        high = T.sblock_alloc_buffer((1,), "int32", scope="local")
                        if bx * THREADS + tx < count:
                            at: T.let[T.int32] = bx * THREADS + tx
                            own: T.let[T.int32] = at // length
                            rank[0] = float_rank(values[by, at])
                            # Elements of its own run that come before it, then those of the others.
                            place[0] = own // FAN_IN * FAN_IN * length + at % length
                            for step in T.serial(FAN_IN):
                                run: T.let[T.int32] = own // FAN_IN * FAN_IN + step
                                if run != own and run * length < count:
                                    low[0] = run * length
                                    high[0] = T.min(run * length + length, count)
                                    for halving in T.serial(steps):  # noqa: B007
                                        if low[0] < high[0]:
                                            rank[1] = float_rank(
                                                values[by, (low[0] + high[0]) // 2]
                                            )
                                            if rank[1] > rank[0] or (
                                                rank[1] == rank[0] and run < own
                                            ):
                                                low[0] = (low[0] + high[0]) // 2 + 1
                                            else:
                                                high[0] = (low[0] + high[0]) // 2
                                    place[0] += low[0] - run * length
                            ordered[by, place[0]] = values[by, at]
                            indices[by, place[0]] = sources[by, at]

    return merge_runs
