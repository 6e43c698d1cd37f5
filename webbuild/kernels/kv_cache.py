"""The paged KV cache of TVM's runtime, with the attention kernels that suit shape and target."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.nn.llm import _kernel_common as tvm_tiles
from tvm.relax.frontend.nn.llm import kv_cache as tvm_kernels
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, PagedKVCache, RopeMode
from tvm.target import Target

from webbuild.kernels.attention import paged_prefill, ragged_prefill
from webbuild.kernels.attention_decode import merge_states, paged_decode
from webbuild.kernels.cpu import attention as cpu_attention
from webbuild.kernels.cpu.heads import HEAD_DIM_STEP, HeadShape
from webbuild.kernels.cpu.rotary import split_rotary
from webbuild.needs import Buffers, pooled

PAGE_TOKENS = 16
# Models up to this many query features take the kernels without barriers.
DIRECT_FEATURES = 1024
# Features of a head that a thread of TVM's decode kernel has.
TILE_FEATURES = 4
# Programs that every chat runs; the others (fork, compaction, debugging) wait for their first use.
EVERYDAY_PROGRAMS = (
    "attention_prefill_ragged",
    "attention_prefill_paged",
    "attention_decode",
    "attention_merge_state",
    "kv_cache_transpose_append",
    "split_rotary",
)


# TVM's kTreeAttnMaxTreeSize: room for the mask of a token tree, which this engine never draws.
TREE_TOKENS = 256


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


def cache_buffers(
    shape: KVCacheShape, target: Target, *, sequences: int, tokens: int, chunk: int
) -> Buffers:
    """The largest buffers that TVM's runtime makes for a cache of so many tokens.

    As in src/runtime/vm/paged_kv_cache.cc and attn_utils.h of TVM's wheel.
    """
    element = {"float32": 4, "float16": 2}[shape.dtype]
    pages = -(-tokens // PAGE_TOKENS)
    width = shape.query_heads * shape.head_dim
    bound = [
        (pages + 1) * 2 * shape.kv_heads * PAGE_TOKENS * shape.head_dim * element,
        chunk * width * element,
        chunk * shape.query_heads * 4,
    ]
    if takes_direct_kernels(shape, target):
        # The scores of paged_decode.
        bound.append(pooled(shape.query_heads * pages * PAGE_TOKENS * 4))
    return Buffers(bound=tuple(bound), others=(TREE_TOKENS**2 * sequences * 4,))


def create_kv_cache(shape: KVCacheShape, sizes: tuple[tirx.Var, ...]) -> PagedKVCache:
    """Emit the creation of a cache; sizes as in `create_tir_paged_kv_cache` of MLC's ABI.

    Sliding windows and token trees have no kernels: their places stay empty.
    """
    builder = relax.BlockBuilder.current()
    programs = attention_programs(shape, Target.current())

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
        attention(programs.ragged, "attention_prefill_ragged"),
        attention(programs.paged, "attention_prefill_paged"),
        attention(programs.decode, "attention_decode"),
        *[nothing] * 5,
        relax.Tuple([program(programs.merge, "attention_merge_state")]),
        program(rotary_program(shape, Target.current()), "split_rotary"),
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


class AttentionPrograms(NamedTuple):
    """New tokens to new tokens, new tokens to pages, one token to pages, and merging two results."""

    ragged: tirx.PrimFunc
    paged: tirx.PrimFunc
    decode: tirx.PrimFunc
    merge: tirx.PrimFunc


def attention_programs(shape: KVCacheShape, target: Target) -> AttentionPrograms:
    """The programs that suit shape and target."""
    heads, kv_heads, width = shape.query_heads, shape.kv_heads, shape.head_dim
    dtype, scaling = shape.dtype, shape.rope_scaling
    if _suits_vectors(shape, target):
        vectors = HeadShape(heads, kv_heads, width)
        return AttentionPrograms(
            cpu_attention.ragged_prefill(vectors),
            cpu_attention.paged_prefill(vectors),
            cpu_attention.paged_decode(vectors),
            tvm_kernels._merge_state_inplace_cpu(dtype),
        )
    if target.kind.name == "llvm":
        return AttentionPrograms(
            tvm_kernels._attention_prefill_ragged_cpu(
                kv_heads, heads, width, width, dtype, scaling
            ),
            tvm_kernels._attention_prefill_cpu(kv_heads, heads, width, dtype, False, scaling),
            tvm_kernels._attention_decode_cpu(kv_heads, heads, width, dtype, False, scaling),
            tvm_kernels._merge_state_inplace_cpu(dtype),
        )
    merge = merge_states(heads, width, dtype)
    if takes_direct_kernels(shape, target):
        sizes = (heads, kv_heads, width, dtype)
        return AttentionPrograms(
            ragged_prefill(*sizes), paged_prefill(*sizes), paged_decode(*sizes), merge
        )
    return AttentionPrograms(
        tvm_kernels._attention_prefill_ragged(
            kv_heads, heads, width, width, dtype, scaling, target
        ),
        tvm_kernels._attention_prefill(kv_heads, heads, width, dtype, False, scaling, target),
        tvm_kernels._attention_decode(kv_heads, heads, width, dtype, False, scaling, target),
        merge,
    )


def takes_direct_kernels(shape: KVCacheShape, target: Target) -> bool:
    """Whether a GPU's attention is that without barriers."""
    features = shape.query_heads * shape.head_dim
    return features <= DIRECT_FEATURES or not _suits_tiles(shape, target)


def _suits_tiles(shape: KVCacheShape, target: Target) -> bool:
    """Whether TVM's tiled kernels compute heads of this shape, and all of them.

    Its prefill has tiles for some head dimensions only, in memory that a workgroup may not have. Its
    decode halves the query heads that share keys until they fit a workgroup, and would leave out what an
    odd number has over.
    """
    try:
        *_, rows, _, keys = tvm_tiles._get_prefill_kernel_config(
            shape.kv_heads, shape.query_heads, shape.head_dim, shape.dtype, target
        )
    except ValueError:
        return False
    memory = tvm_tiles._get_prefill_shared_memory_usage(rows, keys, shape.head_dim, shape.dtype)
    group = shape.query_heads // shape.kv_heads
    threads = shape.head_dim // TILE_FEATURES
    together = group
    while threads * together > int(target.attrs["max_num_threads"]) and together > 1:
        together //= 2
    return (
        memory <= int(target.attrs["max_shared_memory_per_block"])
        and shape.head_dim % TILE_FEATURES == 0
        and group % together == 0
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


def rotary_program(shape: KVCacheShape, target: Target) -> tirx.PrimFunc:
    """Fused queries, keys and values apart, the former two rotated by their positions."""
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
