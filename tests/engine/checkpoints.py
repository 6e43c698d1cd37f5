"""Small Llamas with random weights and the embedded model's tokenizer."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parent.parent.parent
CONFIG: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def write_checkpoint(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Two layers, grouped heads; logits spread enough that greedy answers aren't ties."""
    torch.manual_seed(seed)
    config = LlamaConfig(**{**CONFIG, **changes})
    model = LlamaForCausalLM(config).float().eval()
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(ROOT / "models/pocket" / name, folder / name)
    return folder


def reference_logits(folder: Path, tokens: list[int]) -> torch.Tensor:
    """float32 [vocabulary] after the last token, by transformers."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0, -1]


def greedy_reference(folder: Path, prompt: list[int], count: int) -> list[int]:
    """The `count` most probable tokens after `prompt`, one by one, by transformers."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]
