"""How a library computes: what layers need to know of quantisation and target, and models don't."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """`dtype` is the kernels' float type, `scale_dtype` that of the scales of 4-bit groups.

    `dot_product` names instructions of webbuild.kernels.cpu.dot_products where 4-bit weights are interleaved
    for them; `on_cpu` asks for kernels in vectors rather than in GPU threads.
    """

    quantization: str
    dtype: str
    scale_dtype: str
    dot_product: str | None = None
    on_cpu: bool = False
