import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlc_edge.errors import CheckpointError
from tests.build.checkpoints import SHARDS, write_checkpoint, write_sharded_checkpoint
from webbuild.checkpoint import open_checkpoint

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def error_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    return str(caught.value)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_a_whole_checkpoint_opens(folder: Path):
    checkpoint = open_checkpoint(folder)
    assert checkpoint.model.hidden_size == 64
    assert checkpoint.chat.token_count == 1024
    assert checkpoint.chat.generation_config["eos_token_id"] == [2, 0]


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS]
)
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    error = error_of(folder)
    assert str(folder) in error
    assert f"{name}" in error
    assert "missing" in error
    assert "download" in error


def test_a_missing_folder_is_named(tmp_path: Path):
    assert f"{tmp_path / 'nothing'} is not a folder" in error_of(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no JSON object"),
        ("{}", "is empty"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_damaged_json_is_named(folder: Path, name: str, content: str, part: str):
    (folder / name).write_text(content)
    assert f"{name} {part}" in error_of(folder)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_no_link_is_followed_out_of_the_folder(folder: Path, name: str):
    outside = folder.with_name("outside")
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert f"{name} is a link out of the folder" in error_of(folder)


def test_a_file_too_large_to_be_read_is_named(folder: Path):
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(1 << 30)
    assert "tokenizer.json has more than" in error_of(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/model.safetensors", "a\0b", "\ud800"])
def test_an_index_names_files_beside_it(tmp_path: Path, name: str):
    folder = write_sharded_checkpoint(tmp_path / "checkpoint")
    change_json(folder / "model.safetensors.index.json", weight_map={"model.norm.weight": name})
    assert "names files outside of the folder" in error_of(folder)


def test_an_unknown_architecture_lists_the_supported(folder: Path):
    change_json(folder / "config.json", model_type="gpt2")
    error = error_of(folder)
    assert "'gpt2'" in error
    assert "llama" in error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_key_value_heads", "2"),
        ("num_hidden_layers", 10**12),
        ("head_dim", -32),
        ("head_dim", 45),
        ("head_dim", 1024),
        ("rope_theta", "large"),
        ("rope_parameters", True),
        ("rope_parameters", {"rope_type": "yarn"}),
        ("quantization_config", {"quant_method": "gptq"}),
    ],
)
def test_a_field_that_cannot_be_built_is_named(folder: Path, field: str, value: Any):
    change_json(folder / "config.json", **{field: value})
    error = error_of(folder)
    assert "config.json: " in error
    assert field.split("_")[0] in error


@pytest.mark.parametrize("changes", [{"model": []}, {"model": {}}, {"added_tokens": [7]}])
def test_a_tokenizer_without_a_vocabulary_is_named(folder: Path, changes: dict[str, Any]):
    change_json(folder / "tokenizer.json", **changes)
    assert "tokenizer.json has no vocabulary of token ids" in error_of(folder)


def test_a_chat_template_that_is_no_text_is_named(folder: Path):
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    assert "chat_template.jinja can't be read" in error_of(folder)


def test_a_missing_tensor_is_named(folder: Path):
    change_tensors(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert "tensor model.layers.1.mlp.up_proj.weight is missing" in error_of(folder)


def test_a_wrong_shape_says_what_it_is_and_should_be(folder: Path):
    name = "model.layers.0.self_attn.o_proj.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: np.zeros((64, 32), np.float32)}))
    assert f"{name} [64, 32], expected [64, 64]" in error_of(folder)


def test_a_wrong_part_of_a_fused_weight_is_named(folder: Path):
    name = "model.layers.0.self_attn.k_proj.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: np.zeros((16, 64), np.float32)}))
    error = error_of(folder)
    assert f"{name} [16, 64]" in error
    assert "expected together [128, 64]" in error


def test_a_type_that_cannot_be_read_is_named(folder: Path):
    name = "model.norm.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: np.zeros((64,), np.int8)}))
    assert f"tensor {name} has type I8, expected F32, F16, BF16" in error_of(folder)


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999, -1])
def test_a_truncated_file_is_named(folder: Path, kept: float):
    content = (folder / WEIGHTS).read_bytes()
    end = kept if isinstance(kept, int) else int(len(content) * kept)
    (folder / WEIGHTS).write_bytes(content[:end])
    error = error_of(folder)
    assert WEIGHTS in error
    assert "download" in error


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0]},
        {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0.0, 16.0]},
        {"dtype": [], "shape": [4], "data_offsets": [0, 16]},
        [],
    ],
)
def test_a_lying_header_is_refused(folder: Path, entry: Any):
    header = json.dumps({"model.norm.weight": entry}).encode()
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    assert f"{WEIGHTS}: tensor model.norm.weight" in error_of(folder)


def test_a_missing_shard_is_named(tmp_path: Path):
    folder = write_sharded_checkpoint(tmp_path / "checkpoint")
    (folder / SHARDS[1]).unlink()
    assert f"{SHARDS[1]} is missing" in error_of(folder)


def test_a_pickle_is_never_opened(folder: Path):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    error = error_of(folder)
    assert "pytorch_model.bin, a pickle" in error
    assert "safe_serialization=True" in error


def test_a_chat_template_file_counts(folder: Path):
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert open_checkpoint(folder).chat.tokenizer_config["chat_template"] == "{{ messages }}"


def test_the_default_of_named_templates_counts(folder: Path):
    templates = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    change_json(folder / "tokenizer_config.json", chat_template=templates)
    assert open_checkpoint(folder).chat.tokenizer_config["chat_template"] == "d"


def test_no_chat_template_is_an_error(folder: Path):
    change_json(folder / "tokenizer_config.json", chat_template=None)
    assert "no chat template" in error_of(folder)


def test_stop_tokens_come_from_the_configuration_where_generation_has_none(folder: Path):
    (folder / "generation_config.json").unlink()
    generation = open_checkpoint(folder).chat.generation_config
    assert generation == {"bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eos_token_id", "</s>"),
        ("eos_token_id", [2, "</s>"]),
        ("bos_token_id", {"id": 1}),
        ("pad_token_id", True),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("top_p", -0.5),
        ("top_p", 0),
        ("repetition_penalty", 0),
        ("eos_token_id", -1),
        ("do_sample", 1),
        ("repetition_penalty", [1.0]),
        ("top_k", 2.5),
        ("min_p", 1.1),
    ],
)
def test_generation_defaults_that_are_none_are_named(folder: Path, field: str, value: Any):
    change_json(folder / "generation_config.json", **{field: value})
    assert f"{field} is " in error_of(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path):
    folder = write_checkpoint(tmp_path / "checkpoint", vocab_size=512)
    assert "token ids up to 1023, config.json a vocab_size of 512" in error_of(folder)


def test_all_problems_are_in_one_error(folder: Path):
    (folder / "tokenizer.json").unlink()
    change_json(folder / "tokenizer_config.json", chat_template=None)
    change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
    error = error_of(folder)
    assert "has 3 problems" in error
    for part in ("tokenizer.json is missing", "no chat template", "lm_head.weight is missing"):
        assert part in error
