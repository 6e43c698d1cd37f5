"""What a model's parameters are called and where they come from; knows nothing of TVM."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter in MLC's naming.

    `sources` are tensors of the checkpoint, concatenated along axis 0; `shape` is the result's shape,
    before quantisation; `quantized` says whether a quantisation applies to it.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    quantized: bool
