"""`mlc-chat-config.json`: the fields that MLC's runtimes read."""

from collections.abc import Mapping
from typing import Any

from webbuild.model_folder import ChatFiles
from webbuild.models.llama_spec import LlamaConfig


def chat_config(
    model: LlamaConfig,
    chat: ChatFiles,
    *,
    conv_template: Mapping[str, Any],
    quantization: str,
    context_window_size: int,
    prefill_chunk_size: int,
    rounding: Mapping[str, Any],
) -> dict[str, Any]:
    """The file's content; sizes in tokens, sampling defaults those of generation_config.json.

    `rounding` notes how levels were found, in a field that MLC's runtimes don't know.
    """
    generation = chat.generation_config
    sizes = {
        "context_window_size": context_window_size,
        "sliding_window_size": -1,
        "prefill_chunk_size": prefill_chunk_size,
        "attention_sink_size": -1,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
    }
    return {
        "version": "0.1.0",
        "model_type": model.model_type,
        "quantization": quantization,
        **({"rounding": dict(rounding)} if rounding else {}),
        "model_config": model_config(model, context_window_size, prefill_chunk_size),
        "vocab_size": model.vocab_size,
        "active_vocab_size": chat.token_count,
        **sizes,
        **_sampling_defaults(generation),
        "tokenizer_files": ["tokenizer.json", "tokenizer_config.json"],
        "tokenizer_info": _tokenizer_info(chat.tokenizer),
        # For MLC's runtimes: ours render tokenizer_config.json's chat template.
        "conv_template": conv_template,
        "pad_token_id": _or(generation.get("pad_token_id"), 0),
        "bos_token_id": generation.get("bos_token_id"),
        "eos_token_id": generation.get("eos_token_id"),
    }


def model_config(
    model: LlamaConfig, context_window_size: int, prefill_chunk_size: int
) -> dict[str, Any]:
    """What shapes a model; in its libraries, too, so that an engine sees whether they belong together."""
    return {
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_attention_heads": model.num_attention_heads,
        "num_hidden_layers": model.num_hidden_layers,
        "num_key_value_heads": model.num_key_value_heads,
        "head_dim": model.head_dim,
        "rms_norm_eps": model.rms_norm_eps,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tie_word_embeddings,
        "position_embedding_base": model.rope_theta,
        "rope_scaling": model.rope_scaling,
        "context_window_size": context_window_size,
        "prefill_chunk_size": prefill_chunk_size,
        "tensor_parallel_shards": 1,
    }


def _sampling_defaults(generation: dict[str, Any]) -> dict[str, float]:
    # Such a model's author wants its likeliest answer, whatever temperature is noted beside.
    greedy = generation.get("do_sample") is False
    return {
        "temperature": 0.0 if greedy else _or(generation.get("temperature"), 1.0),
        "presence_penalty": _or(generation.get("presence_penalty"), 0.0),
        "frequency_penalty": _or(generation.get("frequency_penalty"), 0.0),
        "repetition_penalty": _or(generation.get("repetition_penalty"), 1.0),
        "top_p": _or(generation.get("top_p"), 1.0),
    }


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _tokenizer_info(tokenizer: dict[str, Any]) -> dict[str, Any]:
    fallback = bool((tokenizer.get("model") or {}).get("byte_fallback"))
    return {
        "token_postproc_method": "byte_fallback" if fallback else "byte_level",
        "prepend_space_in_encode": fallback,
        "strip_space_in_decode": fallback,
    }
