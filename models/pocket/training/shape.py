"""Settings of the model and its training."""

from __future__ import annotations

from dataclasses import dataclass

from models.pocket.training.tokenizer import END_OF_TEXT_ID, TURN_END_ID, TURN_START_ID


@dataclass(frozen=True)
class ModelShape:
    """The Llama shape; hidden and intermediate sizes are whole groups of 32 for 4-bit weights."""

    vocab_size: int = 1024
    hidden_size: int = 256
    intermediate_size: int = 768
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    context_tokens: int = 1024
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Numbers in one head."""
        return self.hidden_size // self.heads

    def to_config(self) -> dict[str, object]:
        """Hugging Face's `config.json`."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "max_position_embeddings": self.context_tokens,
            "rope_theta": self.rope_theta,
            "rope_scaling": None,
            "rms_norm_eps": self.norm_epsilon,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "initializer_range": 0.02,
            "pretraining_tp": 1,
            "bos_token_id": TURN_START_ID,
            "eos_token_id": TURN_END_ID,
            "pad_token_id": END_OF_TEXT_ID,
            "torch_dtype": "float16",
            "use_cache": True,
        }


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast to train; `steps` batches of about `batch_tokens` tokens."""

    steps: int = 2000
    batch_tokens: int = 8192
    row_tokens: int = 256
    long_every: int = 8
    matrix_rate: float = 0.02
    vector_rate: float = 4e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    decay_share: float = 0.6
    quantize_from: float = 0.5
    quantize_share: float = 0.75
    save_every: int = 250
    tokenizer_conversations: int = 20000
    seed: int = 0
    threads: int = 2
