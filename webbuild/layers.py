"""Layers that models are made of; how weights are stored is the layer's secret."""

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from mlc_edge.weight_index import FIRST_ROW
from webbuild.kernels.interface import Norm, StoredParameter, Surroundings
from webbuild.numerics import Numerics

# Beside FIRST_ROW, an attribute of parameters that are rows of a stored tensor.
PIECE_OF = "piece_of"


class Linear(nn.Module):
    """y = x W^T with W [out_features, in_features], of floats or in groups of few bits.

    One with the rows of a vocabulary may be larger than a device's buffers: it is stored `in_pieces`.
    """

    def __init__(
        self, in_features: int, out_features: int, numerics: Numerics, *, in_pieces: bool = False
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.kernels = numerics.kernels
        self.format = numerics.format
        store = self.kernels.stored_in_pieces if in_pieces else self.kernels.stored_as
        parameters = store(out_features, in_features, self.format)
        self.stored_as = list(dict.fromkeys(parameter.name for parameter in parameters))
        """Names of the tensors that the weight is stored as."""
        self._attributes = [_attribute(parameter) for parameter in parameters]
        for attribute, (name, shape, dtype, first_row) in zip(
            self._attributes, parameters, strict=True
        ):
            parameter = nn.Parameter(shape, dtype)
            if first_row is not None:
                parameter.attrs |= {PIECE_OF: name, FIRST_ROW: first_row}
            setattr(self, attribute, parameter)

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
        return [getattr(self, attribute) for attribute in self._attributes]


class Embedding(Linear):
    """A table [vocabulary, width], which can serve as output projection too (tied embeddings)."""

    def __init__(self, vocabulary: int, width: int, numerics: Numerics) -> None:
        super().__init__(width, vocabulary, numerics, in_pieces=True)

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


def _attribute(parameter: StoredParameter) -> str:
    """A name of its own for each piece."""
    return f"{parameter.name}_{parameter.first_row}" if parameter.first_row else parameter.name
