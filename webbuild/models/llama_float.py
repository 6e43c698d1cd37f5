"""Llama in NumPy and float32, a layer at a time: the reference that rounded weights are held against."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbuild.models.float_weights import FloatWeights
from webbuild.models.llama_spec import LlamaConfig
from webbuild.models.rope import rope_frequencies
from webbuild.quantization.groups import Floats

# Rows of the embedding, or of the head, that are in memory at once.
VOCABULARY_BLOCK = 4096
LINEARS = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
# Queries whose scores are in memory at once.
QUERY_BLOCK = 256
# Told a parameter's name and what it is multiplied with, float32 [tokens, k].
Tap = Callable[[str, Floats], None]

# Weights may compute what float32 can't hold: that shows in the result, for those who use it.
UNCHECKED = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@dataclass(frozen=True)
class FloatModel:
    """Hidden states are float32 [sequences, tokens, width]; sequences are of one length."""

    config: LlamaConfig
    weights: FloatWeights

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return self.config.num_hidden_layers

    @property
    def embedding(self) -> str:
        """The parameter with a row for each token."""
        return "model.embed_tokens.weight"

    @property
    def head(self) -> str:
        """The parameter that makes logits."""
        return self.embedding if self.config.tie_word_embeddings else "lm_head.weight"

    def linears(self, index: int) -> list[str]:
        """The linear weights of decoder layer `index`, in the order in which they are multiplied with."""
        return [f"model.layers.{index}.{name}.weight" for name in LINEARS]

    def layer_of(self, parameter: str) -> int:
        """The decoder layer that a linear layer's weight is part of; of the head, one more than the last."""
        parts = parameter.split(".")
        return int(parts[2]) if parts[:2] == ["model", "layers"] else self.layers

    def embed(self, tokens: np.ndarray) -> Floats:
        """Token ids int [sequences, tokens] to hidden states."""
        hidden = np.empty((*tokens.shape, self.config.hidden_size), np.float32)
        for start in range(0, self.config.vocab_size, VOCABULARY_BLOCK):
            stop = min(start + VOCABULARY_BLOCK, self.config.vocab_size)
            here = (tokens >= start) & (tokens < stop)
            if here.any():
                rows = self.weights.rows(self.embedding, start, stop)
                hidden[here] = rows[tokens[here] - start]
        return hidden

    @UNCHECKED
    def layer(self, index: int, hidden: Floats, tap: Tap | None = None) -> Floats:
        """Hidden states after decoder layer `index`."""
        name = f"model.layers.{index}"
        normed = self._norm(f"{name}.input_layernorm", hidden)
        qkv = self._linear(f"{name}.self_attn.qkv_proj", normed, tap)
        attended = self._attention(qkv)
        hidden = hidden + self._linear(f"{name}.self_attn.o_proj", attended, tap)
        normed = self._norm(f"{name}.post_attention_layernorm", hidden)
        gate, up = np.split(self._linear(f"{name}.mlp.gate_up_proj", normed, tap), 2, axis=-1)
        return hidden + self._linear(f"{name}.mlp.down_proj", _silu(gate) * up, tap)

    @UNCHECKED
    def norm(self, hidden: Floats) -> Floats:
        """What the head reads, from the last layer's hidden states."""
        return self._norm("model.norm", hidden)

    def head_blocks(self) -> Iterator[tuple[int, Floats]]:
        """The head's rows, a block at a time, each with its first row's number."""
        for start in range(0, self.config.vocab_size, VOCABULARY_BLOCK):
            stop = min(start + VOCABULARY_BLOCK, self.config.vocab_size)
            yield start, self.weights.rows(self.head, start, stop)

    def _linear(self, name: str, x: Floats, tap: Tap | None) -> Floats:
        weight = f"{name}.weight"
        if tap:
            tap(weight, x.reshape(-1, x.shape[-1]))
        product: Floats = x @ self.weights.rows(weight).T
        return product

    def _norm(self, name: str, x: Floats) -> Floats:
        squares = np.mean(x * x, axis=-1, keepdims=True)
        scaled = x / np.sqrt(squares + np.float32(self.config.rms_norm_eps))
        normed: Floats = scaled * self.weights.rows(f"{name}.weight")
        return normed

    def _attention(self, qkv: Floats) -> Floats:
        config = self.config
        heads, kv_heads, width = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        sequences, length, _ = qkv.shape
        split = qkv.reshape(sequences, length, heads + 2 * kv_heads, width).transpose(0, 2, 1, 3)
        cosines, sines = _rotations(config, length)
        rotated = _rotate(split[:, : heads + kv_heads], cosines, sines)
        rotated[:, :heads] *= np.float32(1 / math.sqrt(width))
        sharing = heads // kv_heads
        out = np.empty((sequences, length, heads, width), np.float32)
        for shared in range(kv_heads):
            keys, values = rotated[:, heads + shared], split[:, heads + kv_heads + shared]
            mine = slice(shared * sharing, (shared + 1) * sharing)
            for start in range(0, length, QUERY_BLOCK):
                stop = min(start + QUERY_BLOCK, length)
                queries = rotated[:, mine, start:stop].reshape(sequences, -1, width)
                scores = queries @ keys[:, :stop].transpose(0, 2, 1)
                positions = np.tile(np.arange(start, stop), sharing)
                attended = _causal_softmax(scores, positions) @ values[:, :stop]
                shape = (sequences, sharing, stop - start, width)
                out[:, start:stop, mine] = attended.reshape(shape).transpose(0, 2, 1, 3)
        return out.reshape(sequences, length, heads * width)


def _causal_softmax(scores: Floats, positions: npt.NDArray[np.intp]) -> Floats:
    """In place; `positions` are those of the queries [queries], which see no later keys."""
    scores[:, np.arange(scores.shape[-1]) > positions[:, None]] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        activated: Floats = x / (1 + np.exp(-x))
    return activated


def _rotations(config: LlamaConfig, length: int) -> tuple[Floats, Floats]:
    """Cosines and sines float32 [length, head_dim], in the layout of Hugging Face's checkpoints."""
    angles = np.outer(np.arange(length), rope_frequencies(config))
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x: Floats, cosines: Floats, sines: Floats) -> Floats:
    first, second = np.split(x, 2, axis=-1)
    turned: Floats = np.concatenate([-second, first], axis=-1)
    rotated: Floats = x * cosines + turned * sines
    return rotated
