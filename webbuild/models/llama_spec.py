"""Llama's configuration and parameter table; knows nothing of TVM."""

import math
from dataclasses import dataclass
from typing import Any

from mlc_edge.errors import CheckpointError
from webbuild.models.spec import ParameterSpec

REQUIRED = {
    "hidden_size": int,
    "intermediate_size": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "vocab_size": int,
    "rms_norm_eps": float,
    "max_position_embeddings": int,
}
OPTIONAL = {"num_key_value_heads": int, "head_dim": int, "rope_theta": float}
# Far beyond any model: it keeps a damaged number from filling the memory with a table.
LARGEST = 1 << 31
MOST_LAYERS = 4096
# Attention's kernels hold a head in the registers of one GPU thread; the widest that is tested.
LARGEST_HEAD_DIM = 512
LLAMA3_FIELDS = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The fields of a Hugging Face config.json that shape the model."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: dict[str, Any] | None
    context_length: int
    tie_word_embeddings: bool

    @classmethod
    def from_huggingface(cls, config: dict[str, Any]) -> "LlamaConfig":
        """Parse config.json's content; raises CheckpointError that lists every problem."""
        problems = [*_missing(config), *_unsupported(config)]
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if isinstance(rope, dict):
            scaling, rope_problems = _rope_scaling(rope)
        else:
            scaling, rope_problems = None, [f"rope parameters are {rope!r:.60}, expected an object"]
        problems += rope_problems
        if problems:
            raise CheckpointError("config.json: " + "; ".join(problems))
        heads = config["num_attention_heads"]
        return cls(
            model_type=config["model_type"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            rms_norm_eps=float(config["rms_norm_eps"]),
            rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
            rope_scaling=scaling,
            context_length=config["max_position_embeddings"],
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        )


def _missing(config: dict[str, Any]) -> list[str]:
    optional = {f: kind for f, kind in OPTIONAL.items() if config.get(f) is not None}
    problems = [
        f"{field} is {config.get(field)!r:.60}, expected a positive {kind.__name__}"
        for field, kind in {**REQUIRED, **optional}.items()
        if not _is_positive(config.get(field), kind)
    ]
    if problems:
        return problems
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    kv_heads = config.get("num_key_value_heads") or heads
    if heads % kv_heads:
        problems.append(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    if config.get("head_dim") is None and config["hidden_size"] % heads:
        problems.append(
            f"hidden_size {config['hidden_size']} is not a multiple of num_attention_heads {heads}, "
            "and there is no head_dim"
        )
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    if head_dim % 2 or head_dim > LARGEST_HEAD_DIM:
        problems.append(
            f"head_dim is {head_dim}, expected an even number up to {LARGEST_HEAD_DIM}: rotary "
            "embedding turns features in pairs"
        )
    if layers > MOST_LAYERS:
        problems.append(f"num_hidden_layers is {layers}, expected {MOST_LAYERS} at most")
    return problems


def _is_positive(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float) and 0 < value < math.inf
    return isinstance(value, int) and 0 < value < LARGEST


def _unsupported(config: dict[str, Any]) -> list[str]:
    problems = []
    if config.get("quantization_config"):
        problems.append(
            "quantization_config says that the weights are quantised already: use the original "
            "checkpoint in float32, float16 or bfloat16"
        )
    for field in ("attention_bias", "mlp_bias"):
        if config.get(field):
            problems.append(f"{field} is true, and biases are not supported")
    if config.get("hidden_act", "silu") != "silu":
        problems.append(f"hidden_act is {config['hidden_act']!r}, and only 'silu' is supported")
    if config.get("sliding_window") is not None and config.get("use_sliding_window", True):
        problems.append(
            f"sliding_window is {config['sliding_window']!r}, and windows are not supported: "
            "set it to null if the checkpoint works without"
        )
    return problems


def _rope_scaling(rope: dict[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = rope.get("rope_theta")
    if theta is not None and not _is_positive(theta, float):
        return None, [f"rope_theta is {theta!r:.60}, expected a positive float"]
    if kind == "default":
        return None, []
    if kind != "llama3":
        return None, [f"rope type {kind!r} is not supported (supported: 'default', 'llama3')"]
    wrong = [field for field in LLAMA3_FIELDS if not _is_positive(rope.get(field), float)]
    if wrong:
        return None, [f"llama3 rope scaling has no positive number as {', '.join(wrong)}"]
    return {"rope_type": "llama3", **{field: rope[field] for field in LLAMA3_FIELDS}}, []


def parameter_table(config: LlamaConfig) -> list[ParameterSpec]:
    """All parameters, in the order in which the library's functions take them."""
    width, inner, head_dim = config.hidden_size, config.intermediate_size, config.head_dim
    query, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim

    def linear(name: str, shape: tuple[int, int], *sources: str) -> ParameterSpec:
        names = tuple(f"{source}.weight" for source in sources or (name,))
        return ParameterSpec(f"{name}.weight", shape, names, quantized=True)

    def vocabulary(name: str) -> ParameterSpec:
        shape = (config.vocab_size, width)
        return ParameterSpec(
            f"{name}.weight", shape, (f"{name}.weight",), quantized=True, vocabulary=True
        )

    def norm(name: str) -> ParameterSpec:
        return ParameterSpec(f"{name}.weight", (width,), (f"{name}.weight",), quantized=False)

    table = [vocabulary("model.embed_tokens")]
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        heads = (f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj")
        table += [
            linear(f"{attention}.qkv_proj", (query + 2 * keys, width), *heads),
            linear(f"{attention}.o_proj", (width, query)),
            linear(f"{mlp}.gate_up_proj", (2 * inner, width), f"{mlp}.gate_proj", f"{mlp}.up_proj"),
            linear(f"{mlp}.down_proj", (width, inner)),
            norm(f"{layer}.input_layernorm"),
            norm(f"{layer}.post_attention_layernorm"),
        ]
    table.append(norm("model.norm"))
    if not config.tie_word_embeddings:
        table.append(vocabulary("lm_head"))
    return table
