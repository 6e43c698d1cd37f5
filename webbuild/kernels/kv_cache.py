"""The paged KV cache of TVM's runtime, with the attention kernels that suit shape and target."""

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.nn.llm import kv_cache as tvm_kernels
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, PagedKVCache, RopeMode

from webbuild.kernels.interface import PAGE_TOKENS, Kernels, KVCacheShape
from webbuild.needs import Buffers, pooled

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


def cache_buffers(
    shape: KVCacheShape, kernels: Kernels, *, sequences: int, tokens: int, chunk: int
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
    workspace = kernels.attention_workspace(shape, tokens=pages * PAGE_TOKENS, sequences=sequences)
    if workspace:
        bound.append(pooled(workspace))
    return Buffers(bound=tuple(bound), others=(TREE_TOKENS**2 * sequences * 4,))


def create_kv_cache(
    shape: KVCacheShape, kernels: Kernels, sizes: tuple[tirx.Var, ...]
) -> PagedKVCache:
    """Emit the creation of a cache; sizes as in `create_tir_paged_kv_cache` of MLC's ABI.

    Sliding windows and token trees have no kernels: their places stay empty.
    """
    builder = relax.BlockBuilder.current()
    programs = kernels.attention(shape)

    def program(function: tirx.PrimFunc, name: str) -> relax.Expr:
        # A symbol of its own would hide the name under which the metadata lists the kernel.
        return builder.add_func(function.without_attr("global_symbol"), name)

    def attention(function: tirx.PrimFunc, name: str) -> relax.Expr:
        return relax.Tuple([tvm.ir.StringImm("tirx"), program(function, name)])

    nothing = relax.Tuple([])
    unused_window = tirx.IntImm("int64", 1024)
    copy_page, compact = kernels.pages(shape)
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
        program(kernels.rotary(shape), "split_rotary"),
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
