"""The Llama of the embedded model, for training only: packed rows and 4-bit rounding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pocket.training.shape import ModelShape

GROUP = 32
LEVELS = 7


def fake_quantize(weight: Tensor) -> Tensor:
    """`weight` [n, k] rounded as q4f32_1 does: groups of 32 along k, integers from -7 to 7."""
    groups = weight.reshape(weight.shape[0], -1, GROUP)
    scale = groups.abs().amax(dim=-1, keepdim=True) / LEVELS
    rounded = (groups / scale.clamp_min(1e-12)).round().clamp(-LEVELS, LEVELS) * scale
    return rounded.reshape(weight.shape)


class _Weight(nn.Module):
    """A matrix that can be used rounded to 4 bits while gradients pass straight through."""

    def __init__(self, rows: int, columns: int, deviation: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, columns) * deviation)
        self.quantized = False

    def effective(self, dtype: torch.dtype) -> Tensor:
        """The matrix to compute with."""
        weight: Tensor = self.weight
        if self.quantized:
            weight = weight + (fake_quantize(weight.detach()) - weight.detach())
        return weight.to(dtype)


class _Linear(_Weight):
    def __init__(self, inputs: int, outputs: int, *, gain: float = 1.0) -> None:
        super().__init__(outputs, inputs, gain * inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.effective(x.dtype))


class _Norm(nn.Module):
    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.epsilon)
        return x * scale.to(x.dtype) * self.weight.to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # x [b, heads, t, d], cos and sin [b, 1, t, d / 2]; halves are rotated against each other.
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class _Attention(nn.Module):
    def __init__(self, shape: ModelShape, gain: float) -> None:
        super().__init__()
        self.shape = shape
        width = shape.kv_heads * shape.head_size
        self.q_proj = _Linear(shape.hidden_size, shape.hidden_size)
        self.k_proj = _Linear(shape.hidden_size, width)
        self.v_proj = _Linear(shape.hidden_size, width)
        self.o_proj = _Linear(shape.hidden_size, shape.hidden_size, gain=gain)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        b, t, _ = x.shape
        heads = self.shape.heads
        q, k, v = (
            projection(x).view(b, t, -1, self.shape.head_size).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        k, v = (y.repeat_interleave(heads // self.shape.kv_heads, dim=1) for y in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        joined: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(b, t, -1))
        return joined


class _Mlp(nn.Module):
    def __init__(self, shape: ModelShape, gain: float) -> None:
        super().__init__()
        self.gate_proj = _Linear(shape.hidden_size, shape.intermediate_size)
        self.up_proj = _Linear(shape.hidden_size, shape.intermediate_size)
        self.down_proj = _Linear(shape.intermediate_size, shape.hidden_size, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class _Layer(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        gain = (2 * shape.layers) ** -0.5
        self.input_layernorm = _Norm(shape.hidden_size, shape.norm_epsilon)
        self.self_attn = _Attention(shape, gain)
        self.post_attention_layernorm = _Norm(shape.hidden_size, shape.norm_epsilon)
        self.mlp = _Mlp(shape, gain)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class PocketModel(nn.Module):
    """Parameters are named as in Hugging Face's Llama, below its `model.` prefix."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = _Weight(shape.vocab_size, shape.hidden_size, 0.02)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm = _Norm(shape.hidden_size, shape.norm_epsilon)
        exponents = torch.arange(0, shape.head_size, 2) / shape.head_size
        self.frequencies = shape.rope_theta**-exponents

    def quantize(self, enabled: bool) -> None:
        """Compute with 4-bit weights from now on, or with full ones."""
        for module in self.modules():
            if isinstance(module, _Weight):
                module.quantized = enabled

    def loss(self, tokens: Tensor, positions: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy where `targets` is not negative; all inputs are [rows, row_tokens]."""
        table = self.embed_tokens.effective(torch.bfloat16)
        x = F.embedding(tokens, table)
        angles = positions[:, None, :, None] * self.frequencies
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        mask = (documents[:, None, :, None] == documents[:, None, None, :]).tril()
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        said = targets >= 0
        logits = F.linear(self.norm(x[said]), table)
        return F.cross_entropy(logits.float(), targets[said])
