"""Formats for weights that are quantised already: as they are where a kernel takes them so."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from webbuild.gguf.tensors import GgufTensor
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.formats import (
    Q4,
    Q8,
    QUANTIZATIONS,
    Quantization,
    TensorFormat,
    WeightFormats,
)
from webbuild.quantization.groups import SourceTensor

Tensors = Mapping[str, SourceTensor]
# Formats whose values another one holds, too.
HELD_BY = {Q4: Q8}
# A scale of theirs is a product, of which float16 keeps the upper digits.
SCALES_ARE_PRODUCTS = ("Q4_K",)


def native_formats(table: Sequence[ParameterSpec], tensors: Tensors) -> dict[str, TensorFormat]:
    """The format of each parameter whose tensors are quantised, by the parameter's name.

    That of its tensors if they agree, else the smallest that holds them all without loss, else q8.
    """
    formats = {}
    for spec in table:
        sources = _quantized(spec, tensors)
        if not spec.quantized or not sources:
            continue
        found = {tensor.group_format for tensor in sources}
        agreed = found.pop() if len(found) == 1 else None
        formats[spec.name] = agreed or Q8
    return formats


def native_quantization(
    table: Sequence[ParameterSpec], native: Mapping[str, TensorFormat]
) -> Quantization:
    """The quantisation with float16 scales, as files have them, of the format that most weights have."""
    weights: Counter[TensorFormat] = Counter()
    for spec in table:
        if spec.name in native:
            weights[native[spec.name]] += spec.weights
    (linear, _), *_ = weights.most_common(1)
    return next(q for q in QUANTIZATIONS.values() if (q.linear, q.dtype) == (linear, "float16"))


def fitted(
    table: Sequence[ParameterSpec], tensors: Tensors, formats: WeightFormats
) -> dict[str, SourceTensor]:
    """The tensors, with groups in the chosen format where that holds the same values as their own."""
    chosen = {name: formats.of(spec) for spec in table for name in spec.sources}
    return {name: _in_format(tensor, chosen.get(name)) for name, tensor in tensors.items()}


def _in_format(tensor: SourceTensor, format: TensorFormat | None) -> SourceTensor:
    own = tensor.group_format
    if isinstance(tensor, GgufTensor) and own and HELD_BY.get(own) == format:
        return replace(tensor, group_format=format)
    return tensor


def rounding_warnings(
    table: Sequence[ParameterSpec], tensors: Tensors, formats: WeightFormats
) -> list[str]:
    """Sentences on quantised weights of which the bundle won't have exactly the file's values."""
    native = native_formats(table, tensors)
    scales = "float16" if formats.quantization.scale_storage == "raw" else "bfloat16"
    dtype = formats.quantization.dtype
    told: Counter[str] = Counter()
    for spec in table:
        format = formats.of(spec)
        for tensor in _quantized(spec, tensors):
            is_chosen = native.get(spec.name) != format
            loss = _loss(tensor, format, scales, is_chosen=is_chosen, dtype=dtype)
            told[loss] += 1
    return [f"{_counted(count)} {loss}." for loss, count in sorted(told.items()) if loss]


def _counted(count: int) -> str:
    return "1 weight is" if count == 1 else f"{count} weights are"


def _loss(
    tensor: GgufTensor, format: TensorFormat, scales: str, *, is_chosen: bool, dtype: str
) -> str:
    """What a tensor's values lose in a format, empty if nothing."""
    kind, own = tensor.type_name, tensor.group_format
    if not format.bits:
        return "" if dtype == "float32" else f"{kind}: values are rounded to {dtype}"
    if own and format in (own, HELD_BY.get(own)):
        taken = f"{kind}: levels are taken as they are, scales"
        if scales == "bfloat16":
            return f"{taken} are rounded to bfloat16"
        if kind in SCALES_ARE_PRODUCTS:
            return f"{taken}, which are products in the file, are rounded to float16"
        return ""
    if is_chosen:
        return f"{kind} in the file and {format.name} in the bundle: rounded twice"
    if own is None:
        return f"{kind}, for which there is no kernel: rounded again, to {format.name}"
    return f"{kind}, fused with weights of other types: rounded again, to {format.name}"


def _quantized(spec: ParameterSpec, tensors: Tensors) -> list[GgufTensor]:
    sources = (tensors[name] for name in spec.sources)
    return [t for t in sources if isinstance(t, GgufTensor) and t.is_quantized]
