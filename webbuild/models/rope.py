"""Rotary embedding's frequencies (https://arxiv.org/abs/2104.09864), in NumPy float64."""

import numpy as np
import numpy.typing as npt

from webbuild.models.llama_spec import LlamaConfig

Floats = npt.NDArray[np.float64]


def rope_frequencies(config: LlamaConfig) -> Floats:
    """Inverse frequencies [d / 2], with Llama 3's scaling of long wavelengths where it is asked for."""
    width = config.head_dim
    frequencies = config.rope_theta ** (-np.arange(0, width, 2) / width)
    scaling = config.rope_scaling
    if not scaling:
        return frequencies
    return frequencies * llama3_shares(
        frequencies,
        factor=scaling["factor"],
        low=scaling["low_freq_factor"],
        high=scaling["high_freq_factor"],
        context=scaling["original_max_position_embeddings"],
    )


def llama3_shares(
    frequencies: Floats, *, factor: float, low: float, high: float, context: float
) -> Floats:
    """What Llama 3 multiplies frequencies by: long waves are stretched, short ones kept, others mixed.

    https://github.com/meta-llama/llama-models/blob/main/models/llama3/model.py: apply_scaling.
    """
    turns = context * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    shares: Floats = smooth + (1 - smooth) / factor
    return shares
