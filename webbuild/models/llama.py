"""Llama 2 and 3, and what shares their form: TinyLlama, SmolLM2, Mistral without a window."""

import math
from operator import attrgetter
from typing import Any

from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from webbuild.kernels.interface import KVCacheShape
from webbuild.kernels.kv_cache import create_kv_cache
from webbuild.kernels.plain import take_rows
from webbuild.layers import Embedding, Linear, RMSNorm
from webbuild.models.llama_spec import LlamaConfig
from webbuild.numerics import Numerics
from webbuild.self_test import Probe


class LlamaAttention(nn.Module):
    def __init__(self, config: LlamaConfig, numerics: Numerics) -> None:
        self.heads = config.num_attention_heads
        self.fused_heads = config.num_attention_heads + 2 * config.num_key_value_heads
        self.head_dim = config.head_dim
        width = config.hidden_size
        self.qkv_proj = Linear(width, self.fused_heads * self.head_dim, numerics.of("qkv_proj"))
        self.o_proj = Linear(self.heads * self.head_dim, width, numerics.of("o_proj"))

    def forward(self, x: Tensor, norm: RMSNorm, kv_cache: PagedKVCache, layer: int) -> Tensor:
        """x plus what tokens attend to."""
        batch, length, _ = x.shape
        qkv = self.qkv_proj.fused(x, norm=norm)
        qkv = op.reshape(qkv, (batch, length, self.fused_heads, self.head_dim))
        attended = kv_cache.attention_with_fused_qkv(
            layer, qkv, self.heads, sm_scale=1 / math.sqrt(self.head_dim)
        )
        attended = op.reshape(attended, (batch, length, self.heads * self.head_dim))
        return self.o_proj.fused(attended, residual=x)


class LlamaMLP(nn.Module):
    def __init__(self, config: LlamaConfig, numerics: Numerics) -> None:
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_up_proj = Linear(width, 2 * inner, numerics.of("gate_up_proj"))
        self.down_proj = Linear(inner, width, numerics.of("down_proj"))

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        """x plus what is looked up for it."""
        return self.down_proj.fused(self.gate_up_proj.fused(x, norm=norm, gated=True), residual=x)


class LlamaDecoderLayer(nn.Module):
    def __init__(self, config: LlamaConfig, numerics: Numerics) -> None:
        self.self_attn = LlamaAttention(config, numerics.of("self_attn"))
        self.mlp = LlamaMLP(config, numerics.of("mlp"))
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, numerics)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, numerics)

    def forward(self, x: Tensor, kv_cache: PagedKVCache, layer: int) -> Tensor:
        x = self.self_attn(x, self.input_layernorm, kv_cache, layer)
        return self.mlp(x, self.post_attention_layernorm)


class LlamaModel(nn.Module):
    def __init__(self, config: LlamaConfig, numerics: Numerics) -> None:
        self.embed_tokens = Embedding(
            config.vocab_size, config.hidden_size, numerics.of("embed_tokens")
        )
        self.layers = nn.ModuleList(
            [
                LlamaDecoderLayer(config, numerics.of(f"layers.{index}"))
                for index in range(config.num_hidden_layers)
            ]
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, numerics)

    def forward(self, x: Tensor, kv_cache: PagedKVCache) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, kv_cache, index)
        return self.norm(x)


def _last_row(x: te.Tensor) -> te.Tensor:
    batch, length, width = x.shape
    return te.compute((batch, 1, width), lambda b, _, d: x[b, length - 1, d], name="last_row")


class Model(nn.Module):
    """The functions that a model library offers for a Llama; shapes as in MLC's ABI."""

    def __init__(self, config: LlamaConfig, numerics: Numerics) -> None:
        self.config = config
        self.numerics = numerics
        self.dtype = numerics.dtype
        self.model = LlamaModel(config, numerics.of("model"))
        if not config.tie_word_embeddings:
            self.lm_head = Linear(
                config.hidden_size, config.vocab_size, numerics.of("lm_head"), in_pieces=True
            )

    def _logits(self, x: Tensor) -> Tensor:
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        return head.forward(x, "float32")

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids int32 [n] to [n, H]."""
        return self.model.embed_tokens.lookup(input_ids)

    def prefill(self, input_embed: Tensor, kv_cache: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """Embeddings [1, n, H] to logits float32 [1, 1, V] of the last token."""
        x = self.model(input_embed, kv_cache)
        return self._logits(op.tensor_expr_op(_last_row, "last_row", [x])), kv_cache

    def decode(self, input_embed: Tensor, kv_cache: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """Embeddings [1, 1, H] to logits float32 [1, 1, V]."""
        return self._logits(self.model(input_embed, kv_cache)), kv_cache

    def batch_prefill(
        self, input_embeds: Tensor, logit_positions: Tensor, kv_cache: PagedKVCache
    ) -> tuple[Tensor, PagedKVCache]:
        """Embeddings [1, n, H] of b sequences to logits [1, b, V] at `logit_positions` int32 [b]."""
        x = take_rows(self.model(input_embeds, kv_cache), logit_positions, axis=1)
        return self._logits(x), kv_cache

    def batch_decode(
        self, input_embeds: Tensor, kv_cache: PagedKVCache
    ) -> tuple[Tensor, PagedKVCache]:
        """Embeddings [b, 1, H] to logits float32 [b, 1, V]."""
        return self._logits(self.model(input_embeds, kv_cache)), kv_cache

    def batch_verify(
        self, input_embeds: Tensor, kv_cache: PagedKVCache
    ) -> tuple[Tensor, PagedKVCache]:
        """Embeddings [1, n, H] to logits float32 [1, n, V] at all positions."""
        return self._logits(self.model(input_embeds, kv_cache)), kv_cache

    def create_tir_paged_kv_cache(
        self,
        max_batch_size: tirx.Var,
        max_total_seq_len: tirx.Var,
        prefill_chunk_size: tirx.Var,
        page_size: tirx.Var,
        support_sliding_window: tirx.Var,
    ) -> PagedKVCache:
        """A paged KV cache for the layers of this model."""
        sizes = (
            max_batch_size,
            max_total_seq_len,
            prefill_chunk_size,
            page_size,
            support_sliding_window,
        )
        return create_kv_cache(self.cache_shape(), self.numerics.kernels, sizes)

    def cache_shape(self) -> KVCacheShape:
        """What this model's KV cache holds."""
        config = self.config
        return KVCacheShape(
            layers=config.num_hidden_layers,
            query_heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            rope_theta=config.rope_theta,
            rope_scaling=config.rope_scaling or {},
            dtype=self.dtype,
        )

    def self_test_attention(self, qkv: Tensor, kv_cache: PagedKVCache) -> Tensor:
        """[1, n, (hq + 2 hkv) * d] through layer 0's attention to [1, n, hq, d]."""
        attention = self.model.layers[0].self_attn
        batch, length, _ = qkv.shape
        return kv_cache.attention_with_fused_qkv(
            0,
            op.reshape(qkv, (batch, length, attention.fused_heads, attention.head_dim)),
            attention.heads,
            sm_scale=1 / math.sqrt(attention.head_dim),
        )

    def probes(self) -> list[Probe]:
        """Layers of each kind and format, of different decoder layers where there are enough."""
        tied = self.config.tie_word_embeddings
        norm = self.model.layers[0].input_layernorm
        head = self.model.embed_tokens if tied else self.lm_head
        return [
            Probe(name="model.layers.0.input_layernorm", layer=norm),
            *self._linear_probes("self_attn.qkv_proj", 0, norm="input_layernorm"),
            *self._linear_probes("self_attn.o_proj", 1 / 3, reads="heads", residual=True),
            *self._linear_probes(
                "mlp.gate_up_proj", 2 / 3, norm="post_attention_layernorm", gated=True
            ),
            *self._linear_probes("mlp.down_proj", 1, reads="inner", residual=True),
            Probe(name="model.embed_tokens" if tied else "lm_head", layer=head, logits=True),
        ]

    def _linear_probes(
        self, kind: str, part: float, norm: str | None = None, **how: Any
    ) -> list[Probe]:
        """A layer of `kind` for each of its formats: the next after `part` of all decoder layers.

        `norm` is the layer beside it whose results it is given.
        """
        layers = [attrgetter(kind)(layer) for layer in self.model.layers]
        first = int((len(layers) - 1) * part)
        indices = [*range(first, len(layers)), *range(first)]
        found = {layers[index].format: index for index in reversed(indices)}

        def before(index: int) -> tuple[str, RMSNorm] | None:
            name = f"model.layers.{index}.{norm}"
            return (name, getattr(self.model.layers[index], norm)) if norm else None

        return [
            Probe(
                name=f"model.layers.{index}.{kind}", layer=layers[index], norm=before(index), **how
            )
            for index in sorted(found.values(), key=indices.index)
        ]

    def widths(self) -> dict[str, int]:
        """Features that layers read."""
        config = self.config
        return {
            "hidden": config.hidden_size,
            "heads": config.num_attention_heads * config.head_dim,
            "inner": config.intermediate_size,
        }

    def embedding(self) -> tuple[str, Embedding]:
        """The table of embeddings, with its name."""
        return "model.embed_tokens", self.model.embed_tokens

    def export_spec(self) -> dict[str, Any]:
        """What `nn.Module.export_tvm` needs to know of each function's arguments."""
        width = self.config.hidden_size
        cache = nn.spec.Object(object_type=PagedKVCache)
        packed = {"param_mode": "packed", "effect_mode": "none"}
        bare = {"param_mode": "none", "effect_mode": "none"}
        rows = nn.spec.Tensor([1, "seq_len", width], self.dtype)
        return {
            "embed": {"input_ids": nn.spec.Tensor(["seq_len"], "int32"), "$": packed},
            "prefill": {"input_embed": rows, "kv_cache": cache, "$": packed},
            "decode": {
                "input_embed": nn.spec.Tensor([1, 1, width], self.dtype),
                "kv_cache": cache,
                "$": packed,
            },
            "batch_prefill": {
                "input_embeds": rows,
                "logit_positions": nn.spec.Tensor(["batch_size"], "int32"),
                "kv_cache": cache,
                "$": packed,
            },
            "batch_decode": {
                "input_embeds": nn.spec.Tensor(["batch_size", 1, width], self.dtype),
                "kv_cache": cache,
                "$": packed,
            },
            "batch_verify": {"input_embeds": rows, "kv_cache": cache, "$": packed},
            "create_tir_paged_kv_cache": {
                "max_batch_size": int,
                "max_total_seq_len": int,
                "prefill_chunk_size": int,
                "page_size": int,
                "support_sliding_window": int,
                "$": bare,
            },
            "self_test_attention": {
                "qkv": nn.spec.Tensor(
                    [
                        1,
                        "seq_len",
                        self.model.layers[0].self_attn.fused_heads * self.config.head_dim,
                    ],
                    self.dtype,
                ),
                "kv_cache": cache,
                "$": bare,
            },
        }
