"""The paged KV cache of TVM's runtime, with the attention kernels that suit shape and target."""

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.nn.llm import kv_cache as tvm_kernels
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, PagedKVCache, RopeMode
from tvm.target import Target

from webbuild.kernels.attention import merge_states, paged_decode, paged_prefill, ragged_prefill
from webbuild.kernels.cpu import attention as cpu_attention
from webbuild.kernels.cpu.heads import HEAD_DIM_STEP, HeadShape
from webbuild.kernels.cpu.rotary import split_rotary

PAGE_TOKENS = 16
# Models up to this many query features take the kernels without barriers, and head dimensions that fit a
# workgroup of every WebGPU device.
DIRECT_FEATURES = 1024
DIRECT_HEAD_DIM = 256
# Programs that every chat runs; the others (fork, compaction, debugging) wait for their first use.
EVERYDAY_PROGRAMS = (
    "attention_prefill_ragged",
    "attention_prefill_paged",
    "attention_decode",
    "attention_merge_state",
    "kv_cache_transpose_append",
    "split_rotary",
)


@dataclass(frozen=True, kw_only=True)
class KVCacheShape:
    """What a cache holds; `dtype` is the type of keys and values."""

    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    rope_scaling: dict[str, Any]
    dtype: str


def create_kv_cache(shape: KVCacheShape, sizes: tuple[tirx.Var, ...]) -> PagedKVCache:
    """Emit the creation of a cache; sizes as in `create_tir_paged_kv_cache` of MLC's ABI.

    Sliding windows and token trees have no kernels: their places stay empty.
    """
    builder = relax.BlockBuilder.current()
    ragged, paged, decode, merge = _attention(shape, Target.current())

    def program(function: tirx.PrimFunc, name: str) -> relax.Expr:
        # A symbol of its own would hide the name under which the metadata lists the kernel.
        return builder.add_func(function.without_attr("global_symbol"), name)

    def attention(function: tirx.PrimFunc, name: str) -> relax.Expr:
        return relax.Tuple([tvm.ir.StringImm("tirx"), program(function, name)])

    nothing = relax.Tuple([])
    unused_window = tirx.IntImm("int64", 1024)
    copy_page, compact = _page_programs(shape, Target.current())
    arguments = [
        relax.ShapeExpr([*sizes, unused_window]),
        relax.ShapeExpr([0, shape.layers]),
        relax.prim_value(shape.query_heads),
        relax.prim_value(shape.kv_heads),
        relax.prim_value(shape.head_dim),
        relax.prim_value(shape.head_dim),
        relax.ShapeExpr([int(AttnKind.MHA)] * shape.layers),
        relax.prim_value(False),
        relax.prim_value(RopeMode.NORMAL),
        relax.prim_value(1),
        relax.prim_value(shape.rope_theta),
        relax.prim_value(0),
        relax.op.zeros((), shape.dtype),
        program(
            tvm_kernels._kv_cache_transpose_append(shape.kv_heads, shape.head_dim, shape.dtype),
            "kv_cache_transpose_append",
        ),
        relax.prim_value(0),
        attention(ragged, "attention_prefill_ragged"),
        attention(paged, "attention_prefill_paged"),
        attention(decode, "attention_decode"),
        *[nothing] * 5,
        relax.Tuple([program(merge, "attention_merge_state")]),
        program(_rotary(shape, Target.current()), "split_rotary"),
        program(copy_page, "kv_cache_copy_page"),
        program(
            tvm_kernels._kv_cache_debug_get_kv(
                shape.layers, shape.kv_heads, shape.head_dim, shape.dtype
            ),
            "kv_cache_debug_get_kv",
        ),
        program(compact, "kv_cache_compact"),
    ]
    return PagedKVCache(
        _expr=relax.call_pure_packed(
            "vm.builtin.paged_attention_kv_cache_create", *arguments, ty_args=relax.AnyType()
        ),
        _name="paged_kv_cache",
    )


def _attention(shape: KVCacheShape, target: Target) -> tuple[tirx.PrimFunc, ...]:
    """Kernels for ragged prefill, paged prefill, decode and merging two states."""
    heads, kv_heads, width, dtype = (
        shape.query_heads,
        shape.kv_heads,
        shape.head_dim,
        shape.dtype,
    )
    if _suits_vectors(shape, target):
        vectors = HeadShape(heads, kv_heads, width)
        return (
            cpu_attention.ragged_prefill(vectors),
            cpu_attention.paged_prefill(vectors),
            cpu_attention.paged_decode(vectors),
            tvm_kernels._merge_state_inplace_cpu(dtype),
        )
    if target.kind.name == "llvm":
        return (
            tvm_kernels._attention_prefill_ragged_cpu(
                kv_heads, heads, width, width, dtype, shape.rope_scaling
            ),
            tvm_kernels._attention_prefill_cpu(
                kv_heads, heads, width, dtype, False, shape.rope_scaling
            ),
            tvm_kernels._attention_decode_cpu(
                kv_heads, heads, width, dtype, False, shape.rope_scaling
            ),
            tvm_kernels._merge_state_inplace_cpu(dtype),
        )
    merge = merge_states(heads, width, dtype)
    if heads * width <= DIRECT_FEATURES and width <= DIRECT_HEAD_DIM:
        return (
            ragged_prefill(heads, kv_heads, width, dtype),
            paged_prefill(heads, kv_heads, width, dtype),
            paged_decode(heads, kv_heads, width, dtype),
            merge,
        )
    return (
        tvm_kernels._attention_prefill_ragged(
            kv_heads, heads, width, width, dtype, shape.rope_scaling, target
        ),
        tvm_kernels._attention_prefill(
            kv_heads, heads, width, dtype, False, shape.rope_scaling, target
        ),
        tvm_kernels._attention_decode(
            kv_heads, heads, width, dtype, False, shape.rope_scaling, target
        ),
        merge,
    )


def _page_programs(shape: KVCacheShape, target: Target) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    size = (shape.kv_heads, PAGE_TOKENS, shape.head_dim, shape.dtype)
    moved = (shape.kv_heads, shape.head_dim, shape.dtype)
    if target.kind.name == "llvm":
        return tvm_kernels._copy_single_page_cpu(*size), tvm_kernels._compact_kv_copy_cpu(*moved)
    return (
        tvm_kernels._copy_single_page(*size, target),
        tvm_kernels._compact_kv_copy(*moved, target),
    )


def _suits_vectors(shape: KVCacheShape, target: Target) -> bool:
    """Whether a CPU's vector kernels take heads of this shape."""
    on_cpu = target.kind.name == "llvm" and shape.dtype == "float32"
    return on_cpu and shape.head_dim % HEAD_DIM_STEP == 0


def _rotary(shape: KVCacheShape, target: Target) -> tirx.PrimFunc:
    if _suits_vectors(shape, target):
        vectors = HeadShape(shape.query_heads, shape.kv_heads, shape.head_dim)
        return split_rotary(vectors, shape.rope_theta, shape.rope_scaling)
    return tvm_kernels.llama_rope_with_position_map(
        shape.rope_theta,
        1,
        shape.head_dim,
        shape.query_heads,
        shape.kv_heads,
        shape.dtype,
        shape.rope_scaling,
        shape.head_dim,
    )
