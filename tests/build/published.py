"""Weights as MLC publishes them: written by TVM's own writer, which MLC's converter calls."""

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tvm.contrib import tvmjs

from tests.build.mlc_reader import read_interleaved, read_tensors
from tests.build.nearest import NearestQuantizer
from webbuild.checkpoint import open_checkpoint
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import QUANTIZATIONS
from webbuild.tensor_cache import plan_weights, write_weights


def write_standard_set(folder: Path, checkpoint: Path, quantization: str) -> Path:
    """What a build of `checkpoint` writes to tensor-cache.json and its shards."""
    source = open_checkpoint(checkpoint)
    chosen = QUANTIZATIONS[quantization]
    plan = plan_weights(source.table, choose_formats(source.table, chosen, mlc_compatible=True))
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, plan, source.tensors, NearestQuantizer(chosen), lambda _: None)
    return folder


def publish(
    folder: Path,
    checkpoint: Path,
    quantization: str,
    tensors: dict[str, np.ndarray] | None = None,
) -> Path:
    """A folder as MLC's models on Hugging Face are: weights, mlc-chat-config.json, tokenizer.

    `tensors` are the weights; None for the checkpoint's, rounded to the nearest level.
    """
    if tensors is None:
        with tempfile.TemporaryDirectory() as standard:
            tensors = read_tensors(write_standard_set(Path(standard), checkpoint, quantization))
    dump(folder, tensors)
    config = json.loads((checkpoint / "config.json").read_text())
    (folder / "mlc-chat-config.json").write_text(json.dumps(chat_config(config, quantization)))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(checkpoint / name, folder / name)
    return folder


def bundle_tensors(bundle: Path, checkpoint: Path, quantization: str) -> dict[str, np.ndarray]:
    """The weights of a bundle for CPUs, in MLC's order and types."""
    source, chosen = open_checkpoint(checkpoint), QUANTIZATIONS[quantization]
    stored = (read_interleaved if (bundle / "cpu").is_dir() else read_tensors)(bundle)
    formats = choose_formats(source.table, chosen, mlc_compatible=True)
    wanted = [tensor for spec in source.table for tensor in formats.output_tensors(spec)]
    return {
        tensor.name: stored[tensor.name][: tensor.shape[0]].astype(tensor.dtype)
        for tensor in wanted
    }


def dump(folder: Path, tensors: dict[str, Any]) -> None:
    """As `mlc_llm convert_weight` calls it."""
    with contextlib.redirect_stdout(io.StringIO()):
        tvmjs.dump_tensor_cache(
            tensors,
            str(folder),
            encode_format="f32-to-bf16",
            meta_data={"ParamSize": len(tensors)},
            show_progress=False,
        )


def chat_config(config: dict[str, Any], quantization: str) -> dict[str, Any]:
    """mlc-chat-config.json of a Hugging Face config.json, with the fields that MLC writes."""
    sizes = {
        "context_window_size": config["max_position_embeddings"],
        "prefill_chunk_size": 128,
        "tensor_parallel_shards": 1,
    }
    kept = """hidden_size intermediate_size num_attention_heads num_hidden_layers num_key_value_heads
        head_dim rms_norm_eps vocab_size tie_word_embeddings""".split()
    return {
        "version": "0.1.0",
        "model_type": config["model_type"],
        "quantization": quantization,
        "model_config": {
            **{name: config[name] for name in kept},
            "position_embedding_base": config["rope_theta"],
            "rope_scaling": None,
            "max_batch_size": 128,
            "disaggregation": False,
            **sizes,
        },
        "vocab_size": config["vocab_size"],
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        **sizes,
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": [2, 0],
        "conv_template": {"name": "tiny", "stop_token_ids": [2, 0]},
    }
