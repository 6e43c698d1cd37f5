"""Random checkpoints of well-known shapes: `python -m benchmarks.checkpoints 1.1b FOLDER`."""

import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

POCKET = Path(__file__).parents[1] / "models/pocket"
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
# Weights repeat after so many values: their speed is that of any others, and they are quickly made.
PATTERN_VALUES = 1 << 22


@dataclass(frozen=True)
class Shape:
    """A Llama's sizes, by the names of its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of a layer's matrices."""
        width, inner = self.hidden_size, self.intermediate_size
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        return {
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, queries),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }


SHAPES = {
    # Qwen2.5's.
    "0.5b": Shape(896, 4864, 24, 14, 2, 64, 151936),
    # TinyLlama's.
    "1.1b": Shape(2048, 5632, 22, 32, 4, 64, 32000),
    # Llama 3.2's and 3.1's.
    "1b": Shape(2048, 8192, 16, 32, 8, 64, 128256),
    "3b": Shape(3072, 8192, 28, 24, 8, 128, 128256),
    "8b": Shape(4096, 14336, 32, 32, 8, 128, 128256),
    "small": Shape(512, 1536, 4, 8, 2, 64, 4096),
}
MAX_CONTEXT = 2048
RMS_EPSILON = 1e-5
ROPE_THETA = 10000.0


class RandomWeights:
    """Normal values of scale 0.02, float16."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        values = random.standard_normal(PATTERN_VALUES, np.float32) * np.float32(0.02)
        self._pattern = values.astype(np.float16)
        self._offset = 0

    def __call__(self, rows: int, columns: int) -> npt.NDArray[np.float16]:
        self._offset = (self._offset + 997) % PATTERN_VALUES
        values: npt.NDArray[np.float16] = np.resize(
            np.roll(self._pattern, self._offset), (rows, columns)
        )
        return values


def write_checkpoint(shape: Shape, folder: Path) -> None:
    """A Hugging Face checkpoint in float16, a file a layer; replaces nothing that is complete."""
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    weights = RandomWeights()
    ones = np.ones(shape.hidden_size, np.float16)
    files = {
        "model-embeddings.safetensors": {
            "model.embed_tokens.weight": weights(shape.vocab_size, shape.hidden_size),
            "lm_head.weight": weights(shape.vocab_size, shape.hidden_size),
            "model.norm.weight": ones,
        }
    }
    index: dict[str, str] = {}
    for layer in range(-1, shape.num_hidden_layers):
        name = f"model-{layer:03}.safetensors" if layer >= 0 else "model-embeddings.safetensors"
        prefix = f"model.layers.{layer}."
        tensors = files.get(name) or {
            **{f"{prefix}{n}.weight": weights(*size) for n, size in shape.matrices.items()},
            f"{prefix}input_layernorm.weight": ones,
            f"{prefix}post_attention_layernorm.weight": ones,
        }
        save_file(tensors, folder / name)
        index.update(dict.fromkeys(tensors, name))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    for name in TEXT_FILES:
        shutil.copy(POCKET / name, folder / name)
    (folder / "config.json").write_text(json.dumps(model_config(shape), indent=1))


def model_config(shape: Shape) -> dict[str, object]:
    """The fields of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "max_position_embeddings": MAX_CONTEXT,
        "rms_norm_eps": RMS_EPSILON,
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        **asdict(shape),
    }


if __name__ == "__main__":
    write_checkpoint(SHAPES[sys.argv[1]], Path(sys.argv[2]))
