"""Weights as the bytes of the tensors that a format stores them in."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import CheckpointError
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.formats import Quantization, WeightFormats
from webbuild.quantization.groups import Floats, Groups, Quantizer, SourceTensor

Words = npt.NDArray[np.uint32]


def is_rounded(
    spec: ParameterSpec, sources: Mapping[str, SourceTensor], formats: WeightFormats
) -> bool:
    """Whether a quantiser has to find levels for the parameter: it isn't stored in its format already."""
    format = formats.of(spec)
    return bool(format.bits) and any(sources[n].group_format != format for n in spec.sources)


def encode_rows(
    source: SourceTensor,
    spec: ParameterSpec,
    *,
    rows: tuple[int, int],
    first: int,
    formats: WeightFormats,
    quantizer: Quantizer,
) -> Iterator[bytes]:
    """The bytes of rows [start, stop) of `source` for each of the tensors that `spec` is stored as.

    `first` is the parameter's row that the first of them becomes. Raises CheckpointError for values that no
    format holds.
    """
    format, quantization = formats.of(spec), formats.quantization
    if format.bits and source.group_format == format:
        groups = source.read_groups(*rows)
        _require_finite(source.name, groups.scales, groups.minimums)
        yield from _pack(source.name, groups, quantization)
        return
    values = source.read_rows(*rows)
    _require_finite(source.name, values)
    if not format.bits:
        yield as_dtype(source.name, values, quantization).tobytes()
        return
    yield from _pack(source.name, quantizer.quantize(spec, format, values, first), quantization)


def _require_finite(name: str, *found: Floats | None) -> None:
    if not all(values is None or np.isfinite(values).all() for values in found):
        raise CheckpointError(f"tensor {name} holds NaN or infinity: the checkpoint is damaged.")


def _pack(name: str, groups: Groups, quantization: Quantization) -> Iterator[bytes]:
    yield pack_levels(groups).astype("<u4", copy=False).tobytes()
    for floats in (groups.scales, groups.minimums):
        if floats is None:
            continue
        if quantization.scale_storage == "f32-to-bf16":
            # Those of a file that has groups already are float16's.
            floats = round_scales(_finite(name, floats), quantization)
            yield (floats.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            yield as_dtype(name, floats, quantization).tobytes()


def pack_levels(groups: Groups) -> Words:
    """Levels to uint32 words [n, G * words of a group], lowest bits first."""
    format = groups.format
    levels = groups.levels.reshape(len(groups.levels), -1, format.levels_per_word)
    words = np.zeros(levels.shape[:2], np.uint32)
    for index in range(format.levels_per_word):
        words |= levels[:, :, index].astype(np.uint32) << np.uint32(format.bits * index)
    return words


def round_scales(scales: Floats, quantization: Quantization) -> Floats:
    """Scales or minimums as the quantisation stores them, in float32.

    Float16's subnormal numbers are far apart: there, away from zero. A scale that is rounded down cuts off a
    group's largest weights, or all.
    """
    if quantization.scale_storage == "f32-to-bf16":
        return round_to_bf16(scales)
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16)
    magnitudes = np.abs(scales)
    short = (magnitudes < np.finfo(np.float16).smallest_normal) & (np.abs(halves) < magnitudes)
    outward = np.nextafter(halves, np.copysign(np.float16(np.inf), scales).astype(np.float16))
    return np.where(short, outward, halves).astype(np.float32)


def round_to_bf16(values: Floats) -> Floats:
    """Finite float32 to the nearest value with zero lower 16 bits, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def as_dtype(name: str, values: Floats, quantization: Quantization) -> npt.NDArray[np.floating]:
    """Values as floats of the quantisation's type; raises CheckpointError if they are beyond it."""
    if quantization.dtype == "float32":
        return values.astype("<f4", copy=False)
    with np.errstate(over="ignore"):
        return _finite(name, values.astype("<f2"))


def _finite(name: str, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"tensor {name} holds values beyond float16's 65504: use q4f32_1 or q0f32."
        )
    return values
