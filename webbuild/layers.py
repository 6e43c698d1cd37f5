"""Layers that models are made of; how weights are stored is the layer's secret."""

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from webbuild.kernels.cpu.elementwise import gated_silu as gated_silu_on_cpu
from webbuild.kernels.cpu.elementwise import rms_norm as rms_norm_on_cpu
from webbuild.kernels.cpu.grouped import block_bytes, blocks_of, groups_of
from webbuild.kernels.cpu.grouped import grouped_linear as grouped_linear_on_cpu
from webbuild.kernels.cpu.grouped import grouped_take as grouped_take_on_cpu
from webbuild.kernels.linear import grouped_linear, grouped_take, linear, take_rows
from webbuild.numerics import Numerics
from webbuild.quantization.formats import BLOCK_ROWS


class Linear(nn.Module):
    """y = x W^T with W [out_features, in_features], of floats or in groups of few bits."""

    def __init__(self, in_features: int, out_features: int, numerics: Numerics) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.numerics = numerics
        self.format = numerics.format
        groups = groups_of(in_features)
        if not self.format.bits:
            self.weight = nn.Parameter((out_features, in_features), numerics.dtype)
            return
        if numerics.dot_product:
            blocks = blocks_of(out_features)
            self.q_weight = nn.Parameter((blocks, groups, block_bytes(self.format)), "uint8")
            floats: tuple[int, ...] = (blocks, groups, BLOCK_ROWS)
        else:
            words = groups * self.format.words_per_group
            self.q_weight = nn.Parameter((out_features, words), "uint32")
            floats = (out_features, groups)
        self.q_scale = nn.Parameter(floats, numerics.scale_dtype)
        if self.format.has_minimums:
            self.q_minimum = nn.Parameter(floats, numerics.scale_dtype)

    @property
    def stored_as(self) -> list[str]:
        """Names of the parameters, in the order in which kernels take them."""
        if not self.format.bits:
            return ["weight"]
        minimums = ["q_minimum"] if self.format.has_minimums else []
        return ["q_weight", "q_scale", *minimums]

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """x [..., in_features] to [..., out_features], float of `out_dtype` (default: the layer's)."""
        out_dtype = out_dtype or self.numerics.dtype
        if not self.format.bits:
            return linear(x, self.weight, out_dtype)
        dot_product = self.numerics.dot_product
        if dot_product:
            return grouped_linear_on_cpu(
                x, self._stored, self.out_features, self.format, dot_product
            )
        return grouped_linear(x, self._stored, self.format, out_dtype)

    @property
    def _stored(self) -> list[Tensor]:
        return [getattr(self, name) for name in self.stored_as]


class Embedding(Linear):
    """A table [vocabulary, width], which can serve as output projection too (tied embeddings)."""

    def __init__(self, vocabulary: int, width: int, numerics: Numerics) -> None:
        super().__init__(width, vocabulary, numerics)

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of `ids` int32 [n], [n, width]."""
        if not self.format.bits:
            return take_rows(self.weight, ids)
        if self.numerics.dot_product:
            return grouped_take_on_cpu(self._stored, ids, self.in_features, self.format)
        return grouped_take(self._stored, ids, self.in_features, self.format, self.numerics.dtype)


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
