"""The fields of config.json from a GGUF file's metadata."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from webbuild.gguf.metadata import Metadata
from webbuild.models.rope import llama3_shares
from webbuild.quantization.groups import Floats

ARCHITECTURE = "llama"
ROPE_FREQUENCIES = "rope_freqs.weight"
# What Llama 3.1 and later have: the ratios of these numbers matter, not their size.
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_CONTEXT = 1.0, 4.0, 8192.0
# float32 rounding of factors up to some hundreds.
TOLERANCE = 1e-4
# Fields of models that compute other things than Llama; the value with which they are the same.
NEUTRAL: dict[str, float] = {
    "llama.expert_count": 0,
    "llama.logit_scale": 1,
    "llama.embedding_scale": 1,
    "llama.residual_scale": 1,
    "llama.attention.scale": 0,
    "llama.attention.sliding_window": 0,
    "llama.attention.clamp_kqv": 0,
    "llama.attention.max_alibi_bias": 0,
    "llama.rope.scale_linear": 1,
    "llama.rope.scaling.attn_factor": 1,
}


def huggingface_config(
    metadata: Metadata, *, rope_factors: Floats | None, tied: bool, vocab_size: int
) -> dict[str, Any]:
    """config.json's content; what is missing, damaged or unsupported is added to `metadata.problems`.

    `rope_factors` are those of the tensor rope_freqs.weight, float32 [head dimension / 2].
    """
    if not _is_llama(metadata):
        return {}
    heads = metadata.integer("llama.attention.head_count")
    width = metadata.integer("llama.embedding_length")
    head_dim = metadata.integer(
        "llama.attention.key_length", width // heads if heads and width % heads == 0 else None
    )
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": metadata.integer("llama.feed_forward_length"),
        "num_hidden_layers": metadata.integer("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.integer("llama.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "vocab_size": vocab_size,
        "rms_norm_eps": metadata.real("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": metadata.real("llama.rope.freq_base", 10000.0),
        "max_position_embeddings": metadata.integer("llama.context_length"),
        "tie_word_embeddings": tied,
    }
    _check_heads(metadata, head_dim)
    _check_neutral(metadata)
    _check_scaling(metadata)
    if rope_factors is not None and not metadata.problems:
        config["rope_scaling"] = _llama3_scaling(metadata, config, rope_factors)
    return config


def _is_llama(metadata: Metadata) -> bool:
    architecture = metadata.text("general.architecture")
    if metadata.text("general.type", "model") != "model":
        metadata.problems.append(
            "general.type says that this is no model of its own: name the model's file"
        )
    elif architecture != ARCHITECTURE:
        metadata.problems.append(
            f"general.architecture is {architecture!r:.40}, and only {ARCHITECTURE!r} is supported"
        )
    return not metadata.problems


def _check_heads(metadata: Metadata, head_dim: int) -> None:
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        value = metadata.integer(key, head_dim)
        if value != head_dim:
            metadata.problems.append(
                f"{key} is {value}, and only that of keys, {head_dim}, is supported"
            )
    if not metadata.flag("llama.attention.causal", True):
        metadata.problems.append("llama.attention.causal is false: this model writes no text")


def _check_neutral(metadata: Metadata) -> None:
    for key, neutral in NEUTRAL.items():
        value = metadata.real(key, neutral)
        if value not in (0, neutral):
            metadata.problems.append(f"{key} is {value:g}, which is not supported")


def _check_scaling(metadata: Metadata) -> None:
    # A factor without a type is of linear scaling, as in llama.cpp.
    kind = metadata.text("llama.rope.scaling.type", "linear")
    factor = metadata.real("llama.rope.scaling.factor", 1)
    if kind != "none" and factor not in (0, 1):
        metadata.problems.append(
            f"llama.rope.scaling.type is {kind!r:.40} with a factor of {factor:g}, which is not supported "
            "(supported: none, and the factors of Llama 3)"
        )


def _llama3_scaling(
    metadata: Metadata, config: Mapping[str, Any], factors: Floats
) -> dict[str, Any] | None:
    """Llama 3's scaling that gives these factors; None and a problem if there is none."""
    if config["rope_theta"] <= 1:
        metadata.problems.append("llama.rope.freq_base is not above 1")
        return None
    values = factors.astype(np.float64)
    if len(values) != config["head_dim"] // 2 or not (np.isfinite(values) & (values > 0)).all():
        metadata.problems.append(
            f"{ROPE_FREQUENCIES} has no {config['head_dim'] // 2} positive numbers"
        )
        return None
    if np.allclose(values, 1, rtol=TOLERANCE):
        return None
    frequencies = config["rope_theta"] ** (-np.arange(len(values)) / len(values))
    factor = _rounded(values.max())
    fields = (LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_CONTEXT)
    if not _gives(values, frequencies, factor, *fields):
        fields = _fitted(values, frequencies, factor) or fields
    if not _gives(values, frequencies, factor, *fields):
        metadata.problems.append(
            f"{ROPE_FREQUENCIES} has factors that are not those of Llama 3's scaling, the only supported one"
        )
        return None
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": fields[0],
        "high_freq_factor": fields[1],
        "original_max_position_embeddings": fields[2],
    }


def llama3_factors(
    frequencies: np.ndarray, factor: float, low: float, high: float, context: float
) -> np.ndarray:
    """What Llama 3 divides rotary frequencies by, float64 like `frequencies`."""
    factors: np.ndarray = 1 / llama3_shares(
        frequencies, factor=factor, low=low, high=high, context=context
    )
    return factors


def _gives(
    values: np.ndarray,
    frequencies: np.ndarray,
    factor: float,
    low: float,
    high: float,
    context: float,
) -> bool:
    expected = llama3_factors(frequencies, factor, low, high, context)
    return np.allclose(values, expected, rtol=TOLERANCE)


def _fitted(
    values: np.ndarray, frequencies: np.ndarray, factor: float
) -> tuple[float, float, float] | None:
    """Low and high factor and context, by the frequencies between; the low factor is taken as 1.

    There the smooth share is (context * f / 2 pi - low) / (high - low): a line over f.
    """
    smooth = (1 / values - 1 / factor) / (1 - 1 / factor)
    between = (smooth > TOLERANCE) & (smooth < 1 - TOLERANCE)
    if factor <= 1 or between.sum() < 2:
        return None
    slope, offset = np.polyfit(frequencies[between], smooth[between], 1)
    if slope <= 0 or offset >= 0:
        return None
    high = LLAMA3_LOW - LLAMA3_LOW / offset
    context = slope * 2 * math.pi * (high - LLAMA3_LOW)
    return LLAMA3_LOW, _rounded(high), _rounded(context)


def _rounded(value: float) -> float:
    """To the digits that float32 keeps through a division."""
    return float(f"{value:.6g}")
