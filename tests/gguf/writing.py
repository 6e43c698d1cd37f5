"""GGUF files of random Llamas by llama.cpp's `gguf` package, and the weights that it finds in them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from tests.build.checkpoints import CONFIG, POCKET, random_tensors

# Rows of super-blocks, and attention that has more than one pair of heads.
WIDE = {
    **CONFIG,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
# Bytes at which float16 factors lie in blocks that the package can read and not write, and their size.
FACTORS = {
    Type.Q4_K: ((0, 2), 4e-4),
    Type.Q5_K: ((0, 2), 2e-4),
    Type.Q6_K: ((208,), 4e-5),
    Type.IQ4_NL: ((0,), 1e-3),
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Weights = dict[str, np.ndarray]
ChooseType = Callable[[str], Type]


def random_blocks(kind: Type, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """uint8 [rows, bytes]: any bytes, with factors that make weights of a usual size."""
    random = np.random.default_rng(seed)
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * columns // weights, size), dtype=np.uint8)
    places, scale = FACTORS[kind]
    for place in places:
        factors = (random.uniform(0.2, 1, len(blocks)) * scale).astype("<f2")
        blocks[:, place : place + 2] = factors.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in NAMES:
        return f"{NAMES[stem]}.weight"
    _, _, index, inner = stem.split(".", 3)
    return f"blk.{index}.{NAMES[inner]}.weight"


def paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys as llama.cpp's converter puts them: the two of a rotation side by side."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def unpaired(weight: np.ndarray, heads: int) -> np.ndarray:
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    config: Mapping[str, Any] = CONFIG,
    *,
    types: ChooseType = lambda name: Type.F32,
    change: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    tokenizer: bool = True,
) -> Weights:
    """Write a model with weights of `types`, by their names; `change` adds or replaces what it likes.

    Returns the weights that are in the file, under Hugging Face's names and in its order.
    """
    writer = gguf.GGUFWriter(path, "llama")
    add_config(writer, config)
    if tokenizer:
        add_pocket_tokenizer(writer)
    weights = {}
    for name, weight in random_tensors(dict(config)).items():
        heads = head_count(name, config)
        own = gguf_name(name)
        kind = Type.F32 if weight.ndim == 1 else types(own)
        data = _stored(paired(weight, heads) if heads else weight, kind)
        writer.add_tensor(own, data, raw_dtype=kind)
        values = gguf.dequantize(data, kind).reshape(weight.shape)
        weights[name] = unpaired(values, heads) if heads else values
    change(writer)
    finish(writer)
    return weights


def head_count(name: str, config: Mapping[str, Any]) -> int:
    """Heads of a weight whose rows are in pairs, else 0."""
    if "q_proj" in name:
        return int(config["num_attention_heads"])
    return int(config["num_key_value_heads"]) if "k_proj" in name else 0


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _stored(weight: np.ndarray, kind: Type) -> np.ndarray:
    if kind in FACTORS:
        return random_blocks(kind, *weight.shape, seed=weight.size)
    return gguf.quantize(weight, kind)


def add_config(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def add_pocket_tokenizer(writer: gguf.GGUFWriter) -> None:
    content = json.loads((POCKET / "tokenizer.json").read_text())
    special = {entry["id"] for entry in content["added_tokens"]}
    ids = content["model"]["vocab"]
    tokens = sorted(ids, key=lambda text: ids[text])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if id in special else 1 for id in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    config = json.loads((POCKET / "tokenizer_config.json").read_text())
    writer.add_chat_template(config["chat_template"])
