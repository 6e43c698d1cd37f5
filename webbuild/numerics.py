"""How a library computes: what layers need to know of quantisation and target, and models don't."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from webbuild.quantization.formats import TensorFormat


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """`dtype` is the kernels' float type, `scale_dtype` that of the scales and minimums of groups.

    `formats` are those of quantised weights by their layer's name, `layer` is the layer that this is for.
    `dot_product` names instructions of webbuild.kernels.cpu.dot_products where weights are interleaved for
    them; `on_cpu` asks for kernels in vectors rather than in GPU threads.
    """

    formats: Mapping[str, TensorFormat]
    dtype: str
    scale_dtype: str
    dot_product: str | None = None
    on_cpu: bool = False
    layer: str = ""

    def of(self, name: str) -> "Numerics":
        """For the layer `name` of this one."""
        return replace(self, layer=f"{self.layer}.{name}" if self.layer else name)

    @property
    def format(self) -> TensorFormat:
        """How this layer's weight is stored."""
        return self.formats[self.layer]
