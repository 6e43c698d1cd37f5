"""The paged KV cache of TVM's runtime, with the attention kernels that suit shape and target."""

from dataclasses import dataclass
from typing import Any

from tvm import relax, tirx
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache, RopeMode, TIRPagedKVCache
from tvm.target import Target


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
    """Emit the creation of a cache; sizes as in `create_tir_paged_kv_cache` of MLC's ABI."""
    max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, sliding_window = sizes
    return TIRPagedKVCache(
        attn_kind="mha",
        max_batch_size=max_batch_size,
        max_total_seq_len=max_total_seq_len,
        prefill_chunk_size=prefill_chunk_size,
        page_size=page_size,
        support_sliding_window=sliding_window,
        layer_partition=relax.ShapeExpr([0, shape.layers]),
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        qk_head_dim=shape.head_dim,
        v_head_dim=shape.head_dim,
        mla_original_qk_head_dim=0,
        mla_original_v_head_dim=0,
        rope_mode=RopeMode.NORMAL,
        rope_scale=1,
        rope_theta=shape.rope_theta,
        rope_scaling=shape.rope_scaling,
        rope_ext_factors=relax.prim_value(0),
        rotary_dim=shape.head_dim,
        enable_disaggregation=False,
        dtype=shape.dtype,
        target=Target.current(),
    )
