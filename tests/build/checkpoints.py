"""Small random Llama checkpoints, as Hugging Face's libraries write them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

POCKET = Path(__file__).parents[2] / "models" / "pocket"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    # Not a multiple of 32: the last group of down_proj is padded.
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def random_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 tensors under the names and in the shapes of Hugging Face's Llama."""
    random = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (query, width),
            f"{layer}.self_attn.k_proj.weight": (keys, width),
            f"{layer}.self_attn.v_proj.weight": (keys, width),
            f"{layer}.self_attn.o_proj.weight": (width, query),
            f"{layer}.mlp.gate_proj.weight": (inner, width),
            f"{layer}.mlp.up_proj.weight": (inner, width),
            f"{layer}.mlp.down_proj.weight": (width, inner),
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.post_attention_layernorm.weight": (width,),
        }
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    tensors = {
        name: (random.standard_normal(shape) * 0.05).astype(np.float32)
        for name, shape in shapes.items()
    }
    for tensor in tensors.values():
        # Norms of models that were trained in bfloat16, which is what published weights keep of them.
        if tensor.ndim == 1:
            tensor.view(np.uint32)[...] &= np.uint32(0xFFFF0000)
    return tensors


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """config.json and the embedded model's tokenizer files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(POCKET / name, folder / name)


def write_checkpoint(folder: Path, **changes: Any) -> Path:
    """A checkpoint with its weights in one file; `changes` are fields of config.json."""
    config = {**CONFIG, **changes}
    write_config(folder, config)
    save_file(random_tensors(config), folder / "model.safetensors")
    return folder


def write_sharded_checkpoint(folder: Path, **changes: Any) -> Path:
    """The same checkpoint with its weights in two files and an index."""
    config = {**CONFIG, **changes}
    write_config(folder, config)
    tensors = random_tensors(config)
    names = sorted(tensors)
    halves = (names[::2], names[1::2])
    for file, half in zip(SHARDS, halves, strict=True):
        save_file({name: tensors[name] for name in half}, folder / file)
    weight_map = {name: file for file, half in zip(SHARDS, halves, strict=True) for name in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
