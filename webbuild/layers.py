"""Layers that models are made of; how weights are stored is the layer's secret."""

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from webbuild.kernels.cpu.elementwise import gated_silu as gated_silu_on_cpu
from webbuild.kernels.cpu.elementwise import rms_norm as rms_norm_on_cpu
from webbuild.kernels.cpu.int4 import (
    BLOCK_ROWS,
    GROUP_BYTES,
    blocks_of,
    groups_of,
    int4_linear,
    int4_take,
)
from webbuild.kernels.linear import linear, q4_linear, q4_take, take_rows
from webbuild.numerics import Numerics
from webbuild.quantization import WORDS_PER_GROUP


class Linear(nn.Module):
    """y = x W^T with W [out_features, in_features], plain (`q0`) or in groups of 4 bits (`q4`)."""

    def __init__(self, in_features: int, out_features: int, numerics: Numerics) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.numerics = numerics
        self.quantized = numerics.quantization.startswith("q4")
        groups = groups_of(in_features)
        if not self.quantized:
            self.weight = nn.Parameter((out_features, in_features), numerics.dtype)
        elif numerics.dot_product:
            blocks = blocks_of(out_features)
            self.q_weight = nn.Parameter((blocks, groups, GROUP_BYTES), "uint8")
            self.q_scale = nn.Parameter((blocks, groups, BLOCK_ROWS), numerics.scale_dtype)
        else:
            self.q_weight = nn.Parameter((out_features, groups * WORDS_PER_GROUP), "uint32")
            self.q_scale = nn.Parameter((out_features, groups), numerics.scale_dtype)

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """x [..., in_features] to [..., out_features], float of `out_dtype` (default: the layer's)."""
        out_dtype = out_dtype or self.numerics.dtype
        if not self.quantized:
            return linear(x, self.weight, out_dtype)
        if self.numerics.dot_product:
            return int4_linear(
                x, self.q_weight, self.q_scale, self.out_features, self.numerics.dot_product
            )
        return q4_linear(x, self.q_weight, self.q_scale, out_dtype)


class Embedding(Linear):
    """A table [vocabulary, width], which can serve as output projection too (tied embeddings)."""

    def __init__(self, vocabulary: int, width: int, numerics: Numerics) -> None:
        super().__init__(width, vocabulary, numerics)

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of `ids` int32 [n], [n, width]."""
        if not self.quantized:
            return take_rows(self.weight, ids)
        if self.numerics.dot_product:
            return int4_take(self.q_weight, self.q_scale, ids, self.in_features)
        return q4_take(self.q_weight, self.q_scale, ids, self.in_features, self.numerics.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in float32 (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, width: int, epsilon: float, numerics: Numerics) -> None:
        self.weight = nn.Parameter((width,), numerics.dtype)
        self.epsilon = epsilon
        self.on_cpu = numerics.on_cpu

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] to the same shape and dtype."""
        if self.on_cpu:
            return rms_norm_on_cpu(x, self.weight, self.epsilon)
        return op.rms_norm(x, self.weight, axes=[-1], epsilon=self.epsilon)


def gated_silu(gate_up: Tensor, numerics: Numerics) -> Tensor:
    """silu(gate) * up for [..., 2 n] that holds gate, then up; [..., n]."""
    if numerics.on_cpu:
        return gated_silu_on_cpu(gate_up)
    gate, up = op.split(gate_up, 2, axis=-1)
    return op.silu(gate) * up
