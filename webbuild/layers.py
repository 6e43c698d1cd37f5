"""Layers that models are made of; how weights are stored is the layer's secret."""

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from webbuild.kernels.interface import Norm, Surroundings
from webbuild.numerics import Numerics


class Linear(nn.Module):
    """y = x W^T with W [out_features, in_features], of floats or in groups of few bits."""

    def __init__(self, in_features: int, out_features: int, numerics: Numerics) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.kernels = numerics.kernels
        self.format = numerics.format
        stored = self.kernels.stored_as(out_features, in_features, self.format)
        self.stored_as = [parameter.name for parameter in stored]
        """Names of the parameters, in the order in which kernels take them."""
        for name, shape, dtype in stored:
            setattr(self, name, nn.Parameter(shape, dtype))

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """x [..., in_features] to [..., out_features], float of `out_dtype` (default: the layer's)."""
        out_dtype = out_dtype or self.kernels.dtype
        return self.kernels.linear(x, self._stored, self.out_features, self.format, out_dtype)

    def fused(
        self,
        x: Tensor,
        *,
        norm: "RMSNorm | None" = None,
        gated: bool = False,
        residual: Tensor | None = None,
    ) -> Tensor:
        """`forward` of what `norm` makes of x, then the gated activation of gate and up, plus `residual`."""
        before = Norm(norm.weight, norm.epsilon) if norm else None
        around = Surroundings(before, gated, residual)
        return self.kernels.fused_linear(x, self._stored, self.out_features, self.format, around)

    @property
    def fuses(self) -> bool:
        """Whether `fused` is one program, but for the norm of prompts."""
        return self.kernels.fuses(self.in_features, self.format)

    @property
    def _stored(self) -> list[Tensor]:
        return [getattr(self, name) for name in self.stored_as]


class Embedding(Linear):
    """A table [vocabulary, width], which can serve as output projection too (tied embeddings)."""

    def __init__(self, vocabulary: int, width: int, numerics: Numerics) -> None:
        super().__init__(width, vocabulary, numerics)

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of `ids` int32 [n], [n, width]."""
        return self.kernels.take(self._stored, ids, self.in_features, self.format)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in float32 (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, width: int, epsilon: float, numerics: Numerics) -> None:
        self.weight = nn.Parameter((width,), numerics.dtype)
        self.epsilon = epsilon
        self.kernels = numerics.kernels

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] to the same shape and dtype."""
        return self.kernels.rms_norm(x, self.weight, self.epsilon)
