"""Attention of single tokens without barriers, and merging what was attended to in two parts.

Signatures and conventions are those of webbuild.kernels.gpu.attention.
"""

from tvm import tirx
from tvm.script import tirx as T

from webbuild.kernels.gpu.attention import LOG2_E, LOWEST, PAGE, THREADS

# Every WebGPU device takes workgroups of so many threads.
MAX_THREADS = 256


def paged_decode(heads: int, kv_heads: int, width: int, dtype: str) -> tirx.PrimFunc:
    """One new token a sequence: a kernel for all scores, then one for the weighted values."""
    group = heads // kv_heads
    threads = min(width, MAX_THREADS)
    parts = -(-width // threads)

    @T.prim_func(s_tir=True)
    def direct_decode(
        q_handle: T.handle,
        pages_handle: T.handle,
        page_indptr_handle: T.handle,
        page_values_handle: T.handle,
        length_info_handle: T.handle,
        k_offset_handle: T.handle,
        q_position_handle: T.handle,
        output_handle: T.handle,
        lse_handle: T.handle,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.is_scheduled": True})
        batch = T.int32()
        used_pages = T.int32()
        max_pages = T.int32()
        pages_offset = T.int64()
        offset_0 = T.int32()
        offset_1 = T.int32()
        offset_2 = T.int32()
        offset_3 = T.int32()
        offset_4 = T.int32()
        q = T.match_buffer(q_handle, (batch, heads, width), dtype)
        pages = T.match_buffer(
            pages_handle, (max_pages, 2, kv_heads, PAGE, width), dtype, elem_offset=pages_offset
        )
        page_indptr = T.match_buffer(
            page_indptr_handle, (batch + 1,), "int32", elem_offset=offset_0
        )
        page_values = T.match_buffer(
            page_values_handle, (used_pages,), "int32", elem_offset=offset_1
        )
        last_length = T.match_buffer(length_info_handle, (batch,), "int32", elem_offset=offset_2)
        T.match_buffer(k_offset_handle, (batch,), "int32", elem_offset=offset_3)
        T.match_buffer(q_position_handle, (batch,), "int32", elem_offset=offset_4)
        output = T.match_buffer(output_handle, (batch, heads, width), dtype)
        lse = T.match_buffer(lse_handle, (batch, heads), "float32")
        with T.sblock("root"):
            T.reads()
            T.writes()
            scores = T.sblock_alloc_buffer((heads, used_pages * PAGE), "float32")
            for by in T.thread_binding(heads, thread="blockIdx.y"):
                for bx in T.thread_binding(
                    T.ceildiv(used_pages * PAGE, THREADS), thread="blockIdx.x"
                ):
                    for tx in T.thread_binding(THREADS, thread="threadIdx.x"):
                        with T.sblock("scores"):
                            T.reads()
                            T.writes()
                            sequence = T.sblock_alloc_buffer((1,), "int32", scope="local")
                            score = T.sblock_alloc_buffer((1,), "float32", scope="local")
                            slot: T.let[T.int32] = bx * THREADS + tx
                            if slot < used_pages * PAGE:
                                sequence[0] = 0
                                for b in T.serial(batch):
                                    if page_indptr[b] <= slot // PAGE:
                                        sequence[0] = b
                                score[0] = T.float32(0)
                                for d in T.serial(width):
                                    score[0] += T.Cast("float32", q[sequence[0], by, d]) * T.Cast(
                                        "float32",
                                        pages[
                                            page_values[slot // PAGE],
                                            0,
                                            by // group,
                                            slot % PAGE,
                                            d,
                                        ],
                                    )
                                scores[by, slot] = score[0] * (sm_scale * T.float32(LOG2_E))
            for by in T.thread_binding(batch * heads, thread="blockIdx.x"):
                for part in T.thread_binding(parts, thread="blockIdx.y"):
                    for tx in T.thread_binding(threads, thread="threadIdx.x"):
                        with T.sblock("values"):
                            T.reads()
                            T.writes()
                            total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                            highest = T.sblock_alloc_buffer((1,), "float32", scope="local")
                            norm = T.sblock_alloc_buffer((1,), "float32", scope="local")
                            length = T.sblock_alloc_buffer((1,), "int32", scope="local")
                            weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
                            b: T.let[T.int32] = by // heads
                            head: T.let[T.int32] = by % heads
                            d: T.let[T.int32] = part * threads + tx
                            first: T.let[T.int32] = page_indptr[b]
                            last: T.let[T.int32] = page_indptr[b + 1]
                            if d < width:
                                length[0] = T.if_then_else(
                                    first != last, (last - first - 1) * PAGE + last_length[b], 0
                                )
                                highest[0] = T.float32(LOWEST)
                                for j in T.serial(length[0]):
                                    highest[0] = T.max(highest[0], scores[head, first * PAGE + j])
                                norm[0] = T.float32(0)
                                total[0] = T.float32(0)
                                for j in T.serial(length[0]):
                                    weight[0] = T.exp2(scores[head, first * PAGE + j] - highest[0])
                                    norm[0] += weight[0]
                                    total[0] += weight[0] * T.Cast(
                                        "float32",
                                        pages[
                                            page_values[first + j // PAGE],
                                            1,
                                            head // group,
                                            j % PAGE,
                                            d,
                                        ],
                                    )
                                output[b, head, d] = T.Cast(
                                    dtype,
                                    T.if_then_else(norm[0] > T.float32(0), total[0] / norm[0], 0.0),
                                )
                                if d == 0:
                                    lse[b, head] = T.if_then_else(
                                        norm[0] > T.float32(0),
                                        highest[0] + T.log2(norm[0]),
                                        T.float32(LOWEST),
                                    )

    return direct_decode


def merge_states(heads: int, width: int, dtype: str) -> tirx.PrimFunc:
    """Merge attention over two sets of keys into the first: one thread for a token and a head.

    TVM's kernel has several threads read and write one log-sum-exp without a barrier between: where they
    don't run in lockstep, late ones read what early ones wrote.
    """

    @T.prim_func(s_tir=True)
    def direct_merge(
        output_handle: T.handle,
        lse_handle: T.handle,
        other_output_handle: T.handle,
        other_lse_handle: T.handle,
    ):
        T.func_attr({"tirx.is_scheduled": True})
        tokens = T.int32()
        output = T.match_buffer(output_handle, (tokens, heads, width), dtype)
        lse = T.match_buffer(lse_handle, (tokens, heads), "float32")
        other_output = T.match_buffer(other_output_handle, (tokens, heads, width), dtype)
        other_lse = T.match_buffer(other_lse_handle, (tokens, heads), "float32")

        for bx in T.thread_binding(T.ceildiv(tokens * heads, THREADS), thread="blockIdx.x"):
            for tx in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("merge"):
                    T.reads()
                    T.writes()
                    highest = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    other_weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    norm = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    if bx * THREADS + tx < tokens * heads:
                        token: T.let[T.int32] = (bx * THREADS + tx) // heads
                        head: T.let[T.int32] = (bx * THREADS + tx) % heads
                        highest[0] = T.max(lse[token, head], other_lse[token, head])
                        weight[0] = T.exp2(lse[token, head] - highest[0])
                        other_weight[0] = T.exp2(other_lse[token, head] - highest[0])
                        norm[0] = weight[0] + other_weight[0]
                        for d in T.serial(width):
                            output[token, head, d] = T.Cast(
                                dtype,
                                (
                                    T.Cast("float32", output[token, head, d]) * weight[0]
                                    + T.Cast("float32", other_output[token, head, d])
                                    * other_weight[0]
                                )
                                / norm[0],
                            )
                        lse[token, head] = highest[0] + T.log2(norm[0])

    return direct_merge
