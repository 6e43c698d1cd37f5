"""What attention must give, in NumPy float64."""

import numpy as np
import numpy.typing as npt

from webbuild.models.llama_spec import LlamaConfig
from webbuild.models.rope import rope_frequencies

Floats = npt.NDArray[np.float64]


def attention_reference(config: LlamaConfig, tokens: int) -> Floats:
    """Attention output of the last of some tokens, [hq * d], in NumPy float64.

    Element i of the tokens' fused qkv, [n, (hq + 2 hkv) * d] flattened, is sin(0.37 i) / 2.
    """
    heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    count = tokens * (heads + 2 * kv_heads) * width
    qkv = (np.sin(0.37 * np.arange(count)) * 0.5).reshape(tokens, -1, width)
    frequencies = rope_frequencies(config)
    query = _rotate(qkv[-1:, :heads], np.array([tokens - 1]), frequencies)[0]
    keys = _rotate(qkv[:, heads : heads + kv_heads], np.arange(tokens), frequencies)
    values = qkv[:, heads + kv_heads :]
    outputs = []
    for head in range(heads):
        shared = head // (heads // kv_heads)
        scores = keys[:, shared] @ query[head] / np.sqrt(width)
        weights = np.exp(scores - scores.max())
        outputs.append(weights @ values[:, shared] / weights.sum())
    return np.concatenate(outputs)


def _rotate(x: Floats, positions: npt.NDArray[np.int64], frequencies: Floats) -> Floats:
    """Rotary embedding (https://arxiv.org/abs/2104.09864) of x [n, h, d], halves rotated."""
    angles = positions[:, None, None] * frequencies
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
