"""How a library computes: what layers need to know of quantisation and target, and models don't."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from webbuild.kernels.interface import Kernels
from webbuild.quantization.formats import TensorFormat


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """`formats` are those of quantised weights by their layer's name, `layer` is the layer that this is for.

    `batches` says whether engines on the device decode several sequences in a step.
    """

    formats: Mapping[str, TensorFormat]
    kernels: Kernels
    batches: bool = False
    layer: str = ""

    def of(self, name: str) -> "Numerics":
        """For the layer `name` of this one."""
        return replace(self, layer=f"{self.layer}.{name}" if self.layer else name)

    @property
    def dtype(self) -> str:
        """The float type of what lies between layers."""
        return self.kernels.dtype

    @property
    def format(self) -> TensorFormat:
        """How this layer's weight is stored."""
        return self.formats[self.layer]
