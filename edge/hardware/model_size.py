"""How much memory models take: well-known ones, and those in a folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mlc_edge.bundle import LOCK_NAME, read_lock
from mlc_edge.cpu import choose_target, host_cpu
from mlc_edge.errors import CheckpointError, ConfigError

# q4f16_1: 4 bits a weight, and a float16 scale for every 32 of them; 8 in small models' vocabularies.
Q4_BYTES_PER_PARAMETER, Q8_BYTES_PER_PARAMETER = 4.5 / 8, 8.5 / 8
SMALL_MODEL = 3_000_000_000
CONTEXT_TOKENS = 4096
KV_BYTES_PER_ELEMENT = 4
# https://huggingface.co/docs/safetensors: a header's length in 8 bytes, then JSON.
HEADER_LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100 << 20


@dataclass(frozen=True)
class ModelSize:
    """Bytes of the weights in memory, and of the KV cache for one conversation of `tokens`."""

    name: str
    weight_bytes: int
    cache_bytes: int
    tokens: int


def _weight_bytes(parameters: float, vocabulary: float) -> int:
    """Of so many parameters, `vocabulary` of which are in embeddings and head."""
    wide = vocabulary if parameters < SMALL_MODEL else 0
    return int((parameters - wide) * Q4_BYTES_PER_PARAMETER + wide * Q8_BYTES_PER_PARAMETER)


def _known(
    name: str, parameters: float, vocabulary: float, shape: tuple[int, int, int]
) -> ModelSize:
    weights = _weight_bytes(parameters, vocabulary)
    return ModelSize(name, weights, CONTEXT_TOKENS * _kv_bytes(*shape), CONTEXT_TOKENS)


def _kv_bytes(layers: int, kv_heads: int, head_dim: int) -> int:
    """Bytes that the keys and values of one token take."""
    return 2 * layers * kv_heads * head_dim * KV_BYTES_PER_ELEMENT


# Parameters, and those of the vocabulary; layers, key-value heads and their width: from their config.json.
KNOWN_MODELS = (
    _known("SmolLM2 135M", 0.135e9, 28e6, (30, 3, 64)),
    _known("SmolLM2 360M", 0.362e9, 47e6, (32, 5, 64)),
    _known("TinyLlama 1.1B", 1.1e9, 131e6, (22, 4, 64)),
    _known("Llama 3.2 1B", 1.24e9, 263e6, (16, 8, 64)),
    _known("SmolLM2 1.7B", 1.71e9, 101e6, (24, 32, 64)),
    _known("Llama 3.2 3B", 3.21e9, 394e6, (28, 8, 128)),
    _known("Mistral 7B", 7.25e9, 262e6, (32, 8, 128)),
    _known("Llama 3.1 8B", 8.03e9, 1051e6, (32, 8, 128)),
)


def read_size(folder: Path) -> ModelSize:
    """The size of a bundle, or of what a checkpoint becomes; nothing is compiled or loaded.

    Raises ConfigError for another folder, BundleError if this CPU can run no library of the bundle.
    """
    if folder.is_file():
        raise ConfigError(
            f"{folder} is a file: `mlc-edge build` it, then name the bundle; its weights take about as many "
            "bytes in memory as on the disk."
        )
    if (folder / LOCK_NAME).is_file():
        lock = read_lock(folder)
        weights = lock.targets[choose_target(lock, host_cpu())].parameter_bytes
        chat_config = _read(folder / "mlc-chat-config.json")
        name = f"{lock.model.id} ({lock.model.weights})"
        return _of_shape(name, weights, chat_config.get("model_config", {}))
    if (folder / "config.json").is_file():
        parameters = sum(map(_parameters, folder.glob("*.safetensors")))
        config = _read(folder / "config.json")
        weights = _weight_bytes(parameters, min(parameters, _vocabulary(config)))
        return _of_shape(folder.resolve().name, weights, config)
    raise ConfigError(
        f"{folder} is neither a bundle (no {LOCK_NAME}) nor a checkpoint (no config.json): name the "
        "folder of one that is on this device."
    )


def _of_shape(name: str, weights: int, config: Mapping[str, Any]) -> ModelSize:
    try:
        heads = int(config["num_attention_heads"])
        width = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        window = config.get("context_window_size") or config.get("max_position_embeddings")
        tokens = min(CONTEXT_TOKENS, int(window or CONTEXT_TOKENS))
        per_token = _kv_bytes(int(config["num_hidden_layers"]), kv_heads, width)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{name} doesn't say its shape ({error!r}): only models of the Llama family run here."
        ) from error
    return ModelSize(name, weights, tokens * per_token, tokens)


def _vocabulary(config: Mapping[str, Any]) -> int:
    """Parameters of embeddings and head; 0 if the configuration is too damaged to say."""
    size, width = config.get("vocab_size"), config.get("hidden_size")
    tables = 1 if config.get("tie_word_embeddings") else 2
    return tables * size * width if isinstance(size, int) and isinstance(width, int) else 0


def _parameters(weights: Path) -> int:
    """Numbers that a safetensors file holds, by its header."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        header = file.read(length) if length <= MAX_HEADER_BYTES else b""
    try:
        tensors = json.loads(header)
        return sum(prod(entry["shape"]) for name, entry in tensors.items() if name[:2] != "__")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{weights} is no safetensors file: download the checkpoint again."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} can't be read: {error}. Download the model again."
        ) from error
    return content if isinstance(content, dict) else {}
