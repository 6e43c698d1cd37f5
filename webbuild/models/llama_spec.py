"""Llama's configuration and parameter table; knows nothing of TVM."""

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
        scaling, rope_problems = _rope_scaling(rope)
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
    problems = []
    for field, kind in REQUIRED.items():
        value = config.get(field)
        accepted = (int, float) if kind is float else (int,)
        if isinstance(value, bool) or not isinstance(value, accepted) or value <= 0:
            problems.append(f"{field} is {value!r}, expected a positive {kind.__name__}")
    heads, kv_heads = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(kv_heads, int) and kv_heads and heads % kv_heads:
        problems.append(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    return problems


def _unsupported(config: dict[str, Any]) -> list[str]:
    problems = []
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
    if kind == "default":
        return None, []
    if kind != "llama3":
        return None, [f"rope type {kind!r} is not supported (supported: 'default', 'llama3')"]
    missing = [field for field in LLAMA3_FIELDS if field not in rope]
    if missing:
        return None, [f"llama3 rope scaling lacks {', '.join(missing)}"]
    return {"rope_type": "llama3", **{field: rope[field] for field in LLAMA3_FIELDS}}, []


def parameter_table(config: LlamaConfig) -> list[ParameterSpec]:
    """All parameters, in the order in which the library's functions take them."""
    width, inner, head_dim = config.hidden_size, config.intermediate_size, config.head_dim
    query, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim

    def linear(name: str, shape: tuple[int, int], *sources: str) -> ParameterSpec:
        names = tuple(f"{source}.weight" for source in sources or (name,))
        return ParameterSpec(f"{name}.weight", shape, names, quantized=True)

    def norm(name: str) -> ParameterSpec:
        return ParameterSpec(f"{name}.weight", (width,), (f"{name}.weight",), quantized=False)

    table = [linear("model.embed_tokens", (config.vocab_size, width))]
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
        table.append(linear("lm_head", (config.vocab_size, width)))
    return table
