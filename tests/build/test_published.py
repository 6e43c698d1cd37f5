"""Weights as MLC publishes them: what becomes of them, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.bundle import verify
from mlc_edge.errors import CheckpointError, ConfigError
from tests.build.conftest import run_build
from tests.build.published import publish
from webbuild.checkpoint import open_checkpoint
from webbuild.published import open_published

INDEX = "ndarray-cache.json"
SHARD = "params_shard_0.bin"


@pytest.fixture(scope="module")
def written(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """q4f32_1 weights of the checkpoint, with the index's older name."""
    folder = publish(tmp_path_factory.mktemp("mlc") / "written", checkpoint, "q4f32_1")
    (folder / "tensor-cache.json").rename(folder / INDEX)
    return folder


@pytest.fixture
def published(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(written, tmp_path / "published")


def change_index(folder: Path, change: Callable[[Any], None]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


def change_record(folder: Path, **changes: Any) -> None:
    """Change the first tensor, the embedding's words."""
    change_index(folder, lambda index: index["records"][0]["records"][0].update(changes))


def error_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_published(folder, None)
    return str(caught.value)


def test_published_weights_become_a_bundle_unmodified(published: Path, tmp_path: Path):
    output = tmp_path / "out"
    result = run_build(published, "--target", "webgpu-software-f32", "-o", output)
    assert result.returncode == 0, result.stderr
    lock = verify(output)
    assert lock.model.quantization == "q4f32_1"
    assert (output / SHARD).read_bytes() == (published / SHARD).read_bytes()
    assert (output / "tensor-cache.json").read_bytes() == (published / INDEX).read_bytes()
    assert {file.path for file in lock.files} >= {SHARD, "tensor-cache.json", "tokenizer.json"}


def test_the_model_is_that_of_mlcs_configuration(published: Path, checkpoint: Path):
    assert open_published(published, None).model == open_checkpoint(checkpoint).model
    config = json.loads((published / "mlc-chat-config.json").read_text())
    config["model_config"] |= {"position_embedding_base": 500000, "context_window_size": 192}
    (published / "mlc-chat-config.json").write_text(json.dumps(config))
    model = open_published(published, None).model
    assert (model.rope_theta, model.context_length) == (500000, 192)


def test_sampling_defaults_and_stop_tokens_are_taken_over(published: Path):
    config = json.loads((published / "mlc-chat-config.json").read_text())
    config |= {"temperature": 0.6, "top_p": 0.9, "eos_token_id": [5, 7]}
    config["model_config"]["sliding_window_size"] = None
    (published / "mlc-chat-config.json").write_text(json.dumps(config))
    generation = open_published(published, None).chat.generation_config
    assert generation["temperature"] == 0.6
    assert generation["top_p"] == 0.9
    assert generation["eos_token_id"] == [5, 7]


def test_what_mlcs_writer_puts_everywhere_names_nothing(published: Path):
    config = json.loads((published / "mlc-chat-config.json").read_text())
    config |= {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
    (published / "mlc-chat-config.json").write_text(json.dumps(config))
    generation = open_published(published, None).chat.generation_config
    assert not generation.keys() & {"temperature", "top_p", "repetition_penalty"}


def test_another_quantization_cannot_be_asked_for(published: Path):
    with pytest.raises(ConfigError, match="holds q4f32_1 weights, and --quant asks for q4f16_1"):
        open_published(published, "q4f16_1")


def test_a_quantization_that_is_not_ours_lists_ours(published: Path):
    config = json.loads((published / "mlc-chat-config.json").read_text())
    (published / "mlc-chat-config.json").write_text(json.dumps({**config, "quantization": "q3x"}))
    assert "'q3x' is not supported: use weights in one of q0f32" in error_of(published)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"shape": [512, 16]}, "q_weight is uint32 [512, 16], expected uint32 [1024, "),
        ({"dtype": "float32", "format": "raw"}, "is float32 [1024, 8], expected uint32"),
        ({"name": "other"}, "tensor model.embed_tokens.q_weight is missing"),
        ({"name": None}, "expected an object with a name"),
        ({"name": "model.norm.weight"}, "tensor 'model.norm.weight' is there twice"),
        ({"byteOffset": 1 << 40}, "doesn't lie in the"),
        ({"byteOffset": -8}, "byteOffset is -8, expected a number of bytes"),
        ({"byteOffset": True}, "byteOffset is True"),
        ({"byteOffset": 10**400}, "byteOffset is 1000"),
        ({"nbytes": 7}, "takes 7 bytes, expected 32768 for [1024, 8]"),
        ({"nbytes": 32772}, "takes 32772 bytes, expected 32768 for [1024, 8]"),
        ({"shape": [1 << 47] * 8}, "takes 32768 bytes, expected"),
        ({"shape": [1] * 100_000}, "shape is a list, expected a list of positive integers"),
        ({"shape": [-1024, -8]}, "shape is [-1024, -8], expected"),
        ({"shape": [1024.0, 8]}, "shape is [1024.0, 8], expected"),
        ({"shape": 5}, "shape is 5, expected"),
        ({"dtype": "float8"}, "dtype is 'float8', expected one of uint8, uint32"),
        ({"dtype": ["uint32"]}, "dtype is ['uint32'], expected one of"),
        ({"format": "zip"}, "format is 'zip', expected one of raw, f32-to-bf16"),
    ],
)
def test_a_tensor_that_cannot_be_is_named(published: Path, changes: dict[str, Any], part: str):
    change_record(published, **changes)
    assert part in error_of(published)


def test_a_tensor_that_begins_in_its_shard_must_end_there(published: Path):
    change_record(published, byteOffset=(published / SHARD).stat().st_size - 4)
    assert "doesn't lie in the" in error_of(published)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"dataPath": "../secret"}, "names '../secret', expected a file beside the index"),
        ({"dataPath": "/etc/passwd"}, "names '/etc/passwd'"),
        ({"dataPath": "lib/x"}, "names 'lib/x'"),
        ({"dataPath": "a\0b"}, "names 'a\\x00b'"),
        ({"dataPath": "\ud800"}, r"names '\ud800'"),
        ({"dataPath": {}}, "names a dict"),
        ({"dataPath": "other.bin"}, "other.bin is missing: download"),
        ({"nbytes": "many"}, "has nbytes 'many'"),
        ({"nbytes": 1 << 40}, f"{SHARD} has "),
        ({"md5sum": 5}, "md5sum 5"),
        ({"md5sum": "0" * 32}, f"{SHARD} has another MD5"),
        ({"records": {}}, "expected an object with a list of records"),
        ({"records": [[[]]]}, "expected an object with a name"),
    ],
)
def test_a_shard_that_cannot_be_is_named(published: Path, changes: dict[str, Any], part: str):
    change_index(published, lambda index: index["records"][0].update(changes))
    assert part in error_of(published)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{}", "is empty"),
        ('{"metadata": {}}', "it has no list of records"),
        ('{"records": 5}', "it has no list of records"),
        ('{"records": [3]}', "a shard is 3"),
        ("[]", "holds no JSON object"),
        ('{"records": [', "is not JSON"),
        ("[" * 100_000 + "]" * 100_000, "is not JSON"),
        ('{"records": [{"dataPath": "a", "nbytes": 1' + "0" * 5000 + "}]}", "is not JSON"),
    ],
)
def test_an_index_that_is_none_is_named(published: Path, text: str, part: str):
    (published / INDEX).write_text(text)
    error = error_of(published)
    assert INDEX in error
    assert part in error


def test_an_index_that_names_a_file_twice_is_refused(published: Path):
    def repeat(index: Any) -> None:
        index["records"].append({**index["records"][0], "records": []})

    change_index(published, repeat)
    assert f"it names '{SHARD}' twice" in error_of(published)


def test_a_shard_without_a_checksum_is_taken(published: Path):
    change_index(published, lambda index: index["records"][0].pop("md5sum"))
    assert open_published(published, None).shards[0].md5 is None


def test_a_shard_that_was_cut_off_is_named_without_a_checksum(published: Path):
    change_index(published, lambda index: index["records"][0].pop("md5sum"))
    shard = published / SHARD
    shard.write_bytes(shard.read_bytes()[:-4])
    assert f"{SHARD} has " in error_of(published)


def test_all_problems_are_in_one_error(published: Path):
    change_index(published, lambda index: index["records"][0]["records"].clear())
    (published / "tokenizer.json").unlink()
    error = error_of(published)
    assert "tokenizer.json is missing" in error
    assert "tensor model.embed_tokens.q_weight is missing" in error
    assert "tensor model.layers.0.mlp.down_proj.q_scale is missing" in error


def test_thousands_of_problems_are_summed_up(published: Path):
    def fill(index: Any) -> None:
        index["records"][0]["records"] = [{"name": f"x{i}"} for i in range(5000)]

    change_index(published, fill)
    error = error_of(published)
    assert "and 4980 more problems" in error
    assert len(error) < 10_000


@pytest.mark.parametrize("name", [SHARD, INDEX, "tokenizer.json", "mlc-chat-config.json"])
def test_no_link_is_followed_out_of_the_folder(published: Path, name: str):
    outside = published.with_name("outside")
    (published / name).rename(outside)
    (published / name).symlink_to(outside)
    assert f"{name} is a link out of the folder: put the file itself there" in error_of(published)


def test_links_of_the_hubs_cache_are_followed(published: Path, tmp_path: Path):
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "1f3c"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(published.iterdir()):
        shutil.copyfile(file, repository / "blobs" / f"{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert open_published(snapshot, None).formats.quantization.name == "q4f32_1"
    (repository / "refs").mkdir()
    (repository / "blobs" / "0").rename(repository / "refs" / "main")
    linked = next(path for path in snapshot.iterdir() if path.readlink().name == "0")
    linked.unlink()
    linked.symlink_to("../../refs/main")
    assert f"{linked.name} is a link out of the folder" in error_of(snapshot)
