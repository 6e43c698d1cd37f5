"""Layers that models are made of; how weights are stored is the layer's secret."""

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from webbuild.kernels.linear import (
    GROUP,
    VALUES_PER_WORD,
    linear,
    q4_linear,
    q4_take,
    take_rows,
)


class Linear(nn.Module):
    """y = x W^T with W [out_features, in_features], plain (`q0`) or in groups of 4 bits (`q4`)."""

    def __init__(self, in_features: int, out_features: int, quantization: str, dtype: str) -> None:
        self.in_features = in_features
        self.dtype = dtype
        self.quantized = quantization.startswith("q4")
        if self.quantized:
            groups = -(-in_features // GROUP)
            words = groups * GROUP // VALUES_PER_WORD
            self.q_weight = nn.Parameter((out_features, words), "uint32")
            self.q_scale = nn.Parameter((out_features, groups), dtype)
        else:
            self.weight = nn.Parameter((out_features, in_features), dtype)

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """x [..., in_features] to [..., out_features], float of `out_dtype` (default: the layer's)."""
        out_dtype = out_dtype or self.dtype
        if self.quantized:
            return q4_linear(x, self.q_weight, self.q_scale, out_dtype)
        return linear(x, self.weight, out_dtype)


class Embedding(Linear):
    """A table [vocabulary, width], which can serve as output projection too (tied embeddings)."""

    def __init__(self, vocabulary: int, width: int, quantization: str, dtype: str) -> None:
        super().__init__(width, vocabulary, quantization, dtype)

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of `ids` int32 [n], [n, width]."""
        if self.quantized:
            return q4_take(self.q_weight, self.q_scale, ids, self.in_features, self.dtype)
        return take_rows(self.weight, ids)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in float32 (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, width: int, epsilon: float, dtype: str) -> None:
        self.weight = nn.Parameter((width,), dtype)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] to the same shape and dtype."""
        return op.rms_norm(x, self.weight, axes=[-1], epsilon=self.epsilon)
