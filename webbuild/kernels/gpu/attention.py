"""Attention of prompts without barriers, for any number and width of heads.

Signatures are those of TVM's paged KV cache (`vm.builtin.paged_attention_kv_cache_create`): pages are
[pages, 2, kv heads, page size, head dim], keys hold their rotary embedding already, scores and the
log-sum-exp are in base 2. Softmax is computed online (https://arxiv.org/abs/1805.02867).
"""

import math

from tvm import tirx
from tvm.script import tirx as T

PAGE = 16
THREADS = 64
LOWEST = -5e4
LOG2_E = math.log2(math.e)


def _together(width: int) -> int:
    """Features of an unrolled loop: Mesa's llvmpipe ends a thread's loops after 65,536 turns in all."""
    return next(count for count in (32, 16, 8, 4, 2, 1) if width % count == 0)


def ragged_prefill(heads: int, kv_heads: int, width: int, dtype: str) -> tirx.PrimFunc:
    """New tokens attend to new tokens: one thread for a query and a head."""
    group, together = heads // kv_heads, _together(width)

    @T.prim_func(s_tir=True)
    def direct_prefill_ragged(
        q_handle: T.handle,
        q_indptr_handle: T.handle,
        k_handle: T.handle,
        v_handle: T.handle,
        kv_indptr_handle: T.handle,
        q_position_handle: T.handle,
        k_offset_handle: T.handle,
        output_handle: T.handle,
        lse_handle: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.is_scheduled": True})
        batch = T.int32()
        tokens = T.int32()
        kv_tokens = T.int32()
        offset_0 = T.int32()
        offset_1 = T.int32()
        offset_2 = T.int32()
        offset_3 = T.int32()
        q = T.match_buffer(q_handle, (tokens, heads, width), dtype)
        q_indptr = T.match_buffer(q_indptr_handle, (batch + 1,), "int32", elem_offset=offset_0)
        k = T.match_buffer(k_handle, (kv_tokens, kv_heads, width), dtype)
        v = T.match_buffer(v_handle, (kv_tokens, kv_heads, width), dtype)
        kv_indptr = T.match_buffer(kv_indptr_handle, (batch + 1,), "int32", elem_offset=offset_1)
        T.match_buffer(q_position_handle, (tokens,), "int32", elem_offset=offset_2)
        T.match_buffer(k_offset_handle, (batch,), "int32", elem_offset=offset_3)
        output = T.match_buffer(output_handle, (tokens, heads, width), dtype)
        lse = T.match_buffer(lse_handle, (tokens, heads), "float32")

        for bx in T.thread_binding(T.ceildiv(tokens * heads, THREADS), thread="blockIdx.x"):
            for tx in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("attention"):
                    T.reads()
                    T.writes()
                    query = T.sblock_alloc_buffer((width,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((width,), "float32", scope="local")
                    sequence = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    highest = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    norm = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    score = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    next_highest = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    keep = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    visible = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    if bx * THREADS + tx < tokens * heads:
                        token: T.let[T.int32] = (bx * THREADS + tx) // heads
                        head: T.let[T.int32] = (bx * THREADS + tx) % heads
                        sequence[0] = 0
                        for b in T.serial(batch):
                            if q_indptr[b] <= token:
                                sequence[0] = b
                        row: T.let[T.int32] = token - q_indptr[sequence[0]]
                        q_length: T.let[T.int32] = q_indptr[sequence[0] + 1] - q_indptr[sequence[0]]
                        kv_begin: T.let[T.int32] = kv_indptr[sequence[0]]
                        kv_length: T.let[T.int32] = kv_indptr[sequence[0] + 1] - kv_begin
                        visible[0] = T.if_then_else(
                            causal > 0, kv_length - q_length + row + 1, kv_length
                        )
                        highest[0] = T.float32(LOWEST)
                        norm[0] = T.float32(1)
                        for d in T.serial(width):
                            query[d] = T.Cast("float32", q[token, head, d]) * (
                                sm_scale * T.float32(LOG2_E)
                            )
                            total[d] = T.float32(0)
                        for j in T.serial(visible[0]):
                            score[0] = T.float32(0)
                            for part in T.serial(width // together):
                                for index in T.unroll(together):
                                    d: T.let[T.int32] = part * together + index
                                    score[0] += query[d] * T.Cast(
                                        "float32", k[kv_begin + j, head // group, d]
                                    )
                            next_highest[0] = T.max(highest[0], score[0])
                            keep[0] = T.exp2(highest[0] - next_highest[0])
                            weight[0] = T.exp2(score[0] - next_highest[0])
                            norm[0] = norm[0] * keep[0] + weight[0]
                            highest[0] = next_highest[0]
                            for part in T.serial(width // together):
                                for index in T.unroll(together):
                                    d: T.let[T.int32] = part * together + index
                                    total[d] = total[d] * keep[0] + weight[0] * T.Cast(
                                        "float32", v[kv_begin + j, head // group, d]
                                    )
                        for d in T.serial(width):
                            output[token, head, d] = T.Cast(dtype, total[d] / norm[0])
                        lse[token, head] = highest[0] + T.log2(norm[0])

    return direct_prefill_ragged


def paged_prefill(heads: int, kv_heads: int, width: int, dtype: str) -> tirx.PrimFunc:
    """New tokens attend to the pages of their sequence: one thread for a query and a head."""
    group, together = heads // kv_heads, _together(width)

    @T.prim_func(s_tir=True)
    def direct_prefill_paged(
        q_handle: T.handle,
        q_indptr_handle: T.handle,
        pages_handle: T.handle,
        page_indptr_handle: T.handle,
        page_values_handle: T.handle,
        length_info_handle: T.handle,
        k_offset_handle: T.handle,
        q_position_handle: T.handle,
        output_handle: T.handle,
        lse_handle: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.is_scheduled": True})
        batch = T.int32()
        tokens = T.int32()
        used_pages = T.int32()
        max_pages = T.int32()
        pages_offset = T.int64()
        offset_0 = T.int32()
        offset_1 = T.int32()
        offset_2 = T.int32()
        offset_3 = T.int32()
        offset_4 = T.int32()
        offset_5 = T.int32()
        q = T.match_buffer(q_handle, (tokens, heads, width), dtype)
        q_indptr = T.match_buffer(q_indptr_handle, (batch + 1,), "int32", elem_offset=offset_0)
        pages = T.match_buffer(
            pages_handle, (max_pages, 2, kv_heads, PAGE, width), dtype, elem_offset=pages_offset
        )
        page_indptr = T.match_buffer(
            page_indptr_handle, (batch + 1,), "int32", elem_offset=offset_1
        )
        page_values = T.match_buffer(
            page_values_handle, (used_pages,), "int32", elem_offset=offset_2
        )
        last_length = T.match_buffer(length_info_handle, (batch,), "int32", elem_offset=offset_3)
        T.match_buffer(k_offset_handle, (batch,), "int32", elem_offset=offset_4)
        T.match_buffer(q_position_handle, (tokens,), "int32", elem_offset=offset_5)
        output = T.match_buffer(output_handle, (tokens, heads, width), dtype)
        lse = T.match_buffer(lse_handle, (tokens, heads), "float32")

        for bx in T.thread_binding(T.ceildiv(tokens * heads, THREADS), thread="blockIdx.x"):
            for tx in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("attention"):
                    T.reads()
                    T.writes()
                    query = T.sblock_alloc_buffer((width,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((width,), "float32", scope="local")
                    sequence = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    highest = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    norm = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    score = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    next_highest = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    keep = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    visible = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    page = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    if bx * THREADS + tx < tokens * heads:
                        token: T.let[T.int32] = (bx * THREADS + tx) // heads
                        head: T.let[T.int32] = (bx * THREADS + tx) % heads
                        sequence[0] = 0
                        for b in T.serial(batch):
                            if q_indptr[b] <= token:
                                sequence[0] = b
                        row: T.let[T.int32] = token - q_indptr[sequence[0]]
                        q_length: T.let[T.int32] = q_indptr[sequence[0] + 1] - q_indptr[sequence[0]]
                        first: T.let[T.int32] = page_indptr[sequence[0]]
                        last: T.let[T.int32] = page_indptr[sequence[0] + 1]
                        visible[0] = T.if_then_else(
                            first != last, (last - first - 1) * PAGE + last_length[sequence[0]], 0
                        )
                        if causal > 0:
                            visible[0] = T.max(visible[0] - q_length + row + 1, 0)
                        highest[0] = T.float32(LOWEST)
                        norm[0] = T.float32(1)
                        for d in T.serial(width):
                            query[d] = T.Cast("float32", q[token, head, d]) * (
                                sm_scale * T.float32(LOG2_E)
                            )
                            total[d] = T.float32(0)
                        for j in T.serial(visible[0]):
                            page[0] = page_values[first + j // PAGE]
                            score[0] = T.float32(0)
                            for part in T.serial(width // together):
                                for index in T.unroll(together):
                                    d: T.let[T.int32] = part * together + index
                                    score[0] += query[d] * T.Cast(
                                        "float32", pages[page[0], 0, head // group, j % PAGE, d]
                                    )
                            next_highest[0] = T.max(highest[0], score[0])
                            keep[0] = T.exp2(highest[0] - next_highest[0])
                            weight[0] = T.exp2(score[0] - next_highest[0])
                            norm[0] = norm[0] * keep[0] + weight[0]
                            highest[0] = next_highest[0]
                            for part in T.serial(width // together):
                                for index in T.unroll(together):
                                    d: T.let[T.int32] = part * together + index
                                    total[d] = total[d] * keep[0] + weight[0] * T.Cast(
                                        "float32", pages[page[0], 1, head // group, j % PAGE, d]
                                    )
                        for d in T.serial(width):
                            output[token, head, d] = T.Cast(dtype, total[d] / norm[0])
                        lse[token, head] = highest[0] + T.log2(norm[0])

    return direct_prefill_paged
