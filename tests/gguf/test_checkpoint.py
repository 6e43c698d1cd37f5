"""What a build needs to know of a model, out of its GGUF file; what it can't build is refused by name."""

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mlc_edge.errors import CheckpointError
from tests.build.checkpoints import CONFIG
from tests.gguf.writing import WIDE, finish, write_gguf
from webbuild.checkpoint import Checkpoint
from webbuild.gguf.checkpoint import open_gguf
from webbuild.gguf.config import llama3_factors
from webbuild.gguf.header import read_header

Change = Callable[[gguf.GGUFWriter], None]
F32 = Type.F32


def opened(tmp_path: Path, config: dict[str, Any] = CONFIG, **options: Any) -> Checkpoint:
    path = tmp_path / "model.gguf"
    write_gguf(path, config, **options)
    return open_gguf(path)


def test_configuration_is_the_checkpoints(tmp_path: Path):
    model = opened(tmp_path, WIDE).model
    fields = {name: getattr(model, name) for name in WIDE if hasattr(model, name)}
    assert fields == {name: WIDE[name] for name in fields}
    assert len(fields) > 8
    assert model.context_length == WIDE["max_position_embeddings"]
    assert model.rope_scaling is None


def test_a_head_is_tied_where_the_file_has_none(tmp_path: Path):
    assert opened(tmp_path, {**CONFIG, "tie_word_embeddings": True}).model.tie_word_embeddings
    assert not opened(tmp_path).model.tie_word_embeddings


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q5_1, Type.Q6_K])
def test_rows_are_in_the_checkpoints_order(tmp_path: Path, kind: Type):
    path = tmp_path / "model.gguf"
    weights = write_gguf(path, WIDE, types=lambda name: kind)
    tensors = open_gguf(path).tensors
    assert tensors.keys() == weights.keys()
    for name, expected in weights.items():
        tensor = tensors[name]
        rows = tensor.shape[0]
        assert tensor.shape == expected.shape
        # Blocks of rows that begin and end inside of heads.
        cuts = sorted({0, rows // 3, rows // 2 + 1, rows})
        read = [tensor.read_rows(a, b) for a, b in pairwise(cuts)]
        np.testing.assert_array_equal(np.concatenate(read), expected)


def test_values_that_were_left_out_have_their_defaults(tmp_path: Path):
    config = {**CONFIG, "num_key_value_heads": 2, "rope_theta": 10000.0}
    left_out = {
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.freq_base",
        "llama.rope.dimension_count",
    }

    def leave_out(writer: gguf.GGUFWriter) -> None:
        for key in left_out:
            del writer.kv_data[0][key]

    model = opened(tmp_path, config, change=leave_out).model
    assert (model.num_key_value_heads, model.head_dim, model.rope_theta) == (2, 32, 10000.0)


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("theta", "head_dim", "scaling"),
    [
        # Llama 3.1, 3.2 and one of another training.
        (500000.0, 128, {"factor": 8.0, **LLAMA3}),
        (500000.0, 64, {"factor": 32.0, **LLAMA3}),
        (10000.0, 64, {**LLAMA3, "factor": 4.0, "original_max_position_embeddings": 4096}),
        (
            500000.0,
            128,
            {
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 2.5,
                "original_max_position_embeddings": 2000,
            },
        ),
    ],
)
def test_llama3_scaling_is_recovered(
    tmp_path: Path, theta: float, head_dim: int, scaling: dict[str, float]
):
    config = {**CONFIG, "rope_theta": theta, "head_dim": head_dim}
    rope = {"rope_type": "llama3", "rope_theta": theta, **scaling}
    huggingface = LlamaConfig(**{**config, "rope_parameters": rope})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](huggingface, "cpu")
    plain = theta ** -(np.arange(head_dim // 2) / (head_dim // 2))
    factors = (plain / scaled.double().numpy()).astype(np.float32)

    def add_factors(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", factors)

    found = opened(tmp_path, config, change=add_factors).model.rope_scaling
    assert found
    assert found["factor"] == scaling["factor"]
    numbers = (found[name] for name in LLAMA3)
    # Other numbers may mean the same; these are the frequencies that count.
    np.testing.assert_allclose(llama3_factors(plain, found["factor"], *numbers), factors, rtol=1e-4)


def test_factors_of_one_are_no_scaling(tmp_path: Path):
    def add_factors(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", np.ones(16, np.float32))

    assert opened(tmp_path, change=add_factors).model.rope_scaling is None


def tensor(name: str, *shape: int, kind: Type = F32) -> Change:
    def change(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor(name, np.full(shape, 3, np.float32), raw_dtype=kind)

    return change


def field(key: str, value: Any) -> Change:
    """The field with another value, or none."""

    def change(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0].pop(key, None)
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            kind = {str: "string", bool: "bool", int: "uint32", float: "float32"}[type(value)]
            getattr(writer, f"add_{kind}")(key, value)

    return change


def without(name: str) -> Change:
    def change(writer: gguf.GGUFWriter) -> None:
        del writer.tensors[0][name]

    return change


def odd_factors(writer: gguf.GGUFWriter) -> None:
    writer.add_tensor("rope_freqs.weight", np.linspace(1, 9, 16).astype(np.float32))


REFUSED: dict[str, tuple[Change, str]] = {
    "architecture": (
        field("general.architecture", "gemma"),
        "general.architecture is 'gemma', and only 'llama' is supported",
    ),
    "adapter": (field("general.type", "adapter"), "general.type says that this is no model"),
    "no heads": (
        field("llama.attention.head_count", None),
        "llama.attention.head_count is missing, expected a number from 0",
    ),
    "heads of each layer": (
        field("llama.attention.head_count", [2, 2]),
        "llama.attention.head_count is a list of 2",
    ),
    "width in words": (field("llama.embedding_length", "64"), "llama.embedding_length is '64'"),
    "no layers": (field("llama.block_count", 0), "num_hidden_layers is 0"),
    "a million layers": (field("llama.block_count", 1_000_000), "expected 4096 at most"),
    "too many layers": (field("llama.block_count", 3), "tensor blk.2.attn_q.weight is missing"),
    "epsilon": (
        field("llama.attention.layer_norm_rms_epsilon", float("nan")),
        "llama.attention.layer_norm_rms_epsilon is nan, expected a number",
    ),
    "experts": (field("llama.expert_count", 8), "llama.expert_count is 8, which is not supported"),
    "scaled logits": (field("llama.logit_scale", 0.5), "llama.logit_scale is 0.5"),
    "window": (field("llama.attention.sliding_window", 4096), "sliding_window is 4096"),
    "half rotation": (field("llama.rope.dimension_count", 16), "rope.dimension_count is 16"),
    "wide values": (field("llama.attention.value_length", 64), "value_length is 64"),
    "no text": (field("llama.attention.causal", False), "this model writes no text"),
    "linear scaling": (
        lambda writer: (
            field("llama.rope.scaling.type", "linear")(writer),
            field("llama.rope.scaling.factor", 2.0)(writer),
        )[0],
        "llama.rope.scaling.type is 'linear' with a factor of 2",
    ),
    "scaling without a type": (
        field("llama.rope.scaling.factor", 4.0),
        "llama.rope.scaling.type is 'linear' with a factor of 4",
    ),
    "yarn": (
        lambda writer: (
            field("llama.rope.scaling.type", "yarn")(writer),
            field("llama.rope.scaling.factor", 4.0)(writer),
        )[0],
        "llama.rope.scaling.type is 'yarn' with a factor of 4",
    ),
    "other factors": (odd_factors, "rope_freqs.weight has factors that are not those of Llama 3"),
    "too many factors": (
        tensor("rope_freqs.weight", 17),
        "rope_freqs.weight has no 16 positive numbers",
    ),
    "a bias": (tensor("blk.0.attn_q.bias", 64), "'blk.0.attn_q.bias' has no place in a Llama"),
    "no embedding": (without("token_embd.weight"), "tensor token_embd.weight is missing"),
    "no norm": (without("blk.1.ffn_norm.weight"), "tensor blk.1.ffn_norm.weight is missing"),
    "another shape": (
        lambda writer: (
            without("blk.1.attn_output.weight")(writer),
            tensor("blk.1.attn_output.weight", 64, 32)(writer),
        )[0],
        "wrong shape: blk.1.attn_output.weight [64, 32], expected [64, 64] by its metadata",
    ),
    "an unreadable type": (
        lambda writer: (
            without("output.weight")(writer),
            writer.add_tensor("output.weight", np.zeros((1024, 64), np.int8)),
        )[0],
        "'output.weight' is I8, and only these types can be read: F32, F16, Q4_0",
    ),
    "no template": (field("tokenizer.chat_template", None), "no chat template"),
    "an odd temperature": (field("general.sampling.temp", -1.0), "temperature is -1.0"),
    "parts": (field("split.count", 3), "the model is in 3 files"),
    "parts in words": (field("split.count", "3"), "split.count is '3', expected a number"),
    "too few layers": (
        field("llama.block_count", 1),
        "tensor blk.1.attn_q.weight is beyond the 1 layers of its metadata",
    ),
    "factors without a base": (
        lambda writer: (
            odd_factors(writer),
            field("llama.rope.freq_base", 0.0)(writer),
        )[0],
        "llama.rope.freq_base is not above 1",
    ),
}


@pytest.mark.parametrize(("change", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cant_be_built_is_refused(tmp_path: Path, change: Change, problem: str):
    with pytest.raises(CheckpointError) as error:
        opened(tmp_path, change=change)
    assert problem in str(error.value)
    assert str(tmp_path / "model.gguf") in str(error.value)


def test_all_problems_are_told_at_once(tmp_path: Path):
    def change(writer: gguf.GGUFWriter) -> None:
        without("blk.1.ffn_norm.weight")(writer)
        field("tokenizer.chat_template", None)(writer)

    with pytest.raises(CheckpointError, match="has 2 problems"):
        opened(tmp_path, change=change)


def test_changed_bytes_give_no_other_error(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(path, tokenizer=True)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    taken = 0
    places = [content.index(b"llama.block_count"), content.index(b"token_embd.weight")]
    for _ in range(60):
        changed = bytearray(content)
        start = int(random.choice(places))
        changed[start + int(random.integers(0, 1200))] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(changed)
        with suppress(CheckpointError):
            open_gguf(path)
            taken += 1
    assert 0 < taken < 60


def write_parts(folder: Path) -> list[Path]:
    """A model in two files, the first of which has the metadata."""
    names = [folder / f"big-0000{index}-of-00002.gguf" for index in (1, 2)]
    rest = gguf.GGUFWriter(names[1], "llama")
    rest.add_uint16("split.no", 1)

    def move_half(writer: gguf.GGUFWriter) -> None:
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", 2)
        for name in [name for name in writer.tensors[0] if name.startswith("blk.1")]:
            moved = writer.tensors[0].pop(name)
            rest.add_tensor(name, moved.tensor)

    write_gguf(names[0], change=move_half)
    finish(rest)
    return names


def test_a_model_in_parts_is_read_whole(tmp_path: Path):
    weights = write_gguf(tmp_path / "whole.gguf")
    tensors = open_gguf(write_parts(tmp_path)[0]).tensors
    for name, expected in weights.items():
        np.testing.assert_array_equal(tensors[name].read_rows(0, len(expected)), expected)


def test_a_missing_part_is_named(tmp_path: Path):
    first, second = write_parts(tmp_path)
    second.unlink()
    with pytest.raises(CheckpointError, match=r"big-00002-of-00002\.gguf can't be read"):
        open_gguf(first)


def test_a_file_that_is_cut_while_it_is_read_is_told(tmp_path: Path):
    checkpoint = opened(tmp_path)
    path = tmp_path / "model.gguf"
    tensor = checkpoint.tensors["model.embed_tokens.weight"]
    rows = 800
    tensor.read_rows(0, rows)
    begin = read_header(path).tensors["token_embd.weight"].offset
    for length in (begin + rows * 64 * 4 - 1, begin + 10, 4):
        with path.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(CheckpointError, match="has become shorter"):
            tensor.read_rows(0, rows)
