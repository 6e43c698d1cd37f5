import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.bundle import verify
from mlc_edge.errors import CheckpointError, ConfigError
from tests.build.conftest import run_build
from webbuild.published import open_published

WEIGHT_FILES = (
    "params_shard_0.bin",
    "mlc-chat-config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.fixture
def published(native_bundle: Path, tmp_path: Path) -> Path:
    """A folder as MLC's models on Hugging Face are: no lock, no library, the index's older name."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in WEIGHT_FILES:
        shutil.copyfile(native_bundle / name, folder / name)
    shutil.copyfile(native_bundle / "tensor-cache.json", folder / "ndarray-cache.json")
    return folder


def change_index(folder: Path, **changes: Any) -> None:
    index = json.loads((folder / "ndarray-cache.json").read_text())
    record = next(r for r in index["records"][0]["records"] if r["name"].endswith("q_weight"))
    record.update(changes)
    (folder / "ndarray-cache.json").write_text(json.dumps(index))


def test_published_weights_become_a_bundle_unmodified(published: Path, tmp_path: Path):
    output = tmp_path / "out"
    result = run_build(published, "--target", "native", "-o", output)
    assert result.returncode == 0, result.stderr
    lock = verify(output)
    assert lock.model.quantization == "q4f32_1"
    shard = "params_shard_0.bin"
    assert (output / shard).read_bytes() == (published / shard).read_bytes()
    assert json.loads((output / "tensor-cache.json").read_text())["records"]


def test_sampling_defaults_and_stop_tokens_are_taken_over(published: Path):
    config = json.loads((published / "mlc-chat-config.json").read_text())
    config |= {"temperature": 0.6, "top_p": 0.9, "eos_token_id": [5, 7]}
    config["model_config"]["sliding_window_size"] = None
    (published / "mlc-chat-config.json").write_text(json.dumps(config))
    generation = open_published(published, None).chat.generation_config
    assert generation["temperature"] == 0.6
    assert generation["top_p"] == 0.9
    assert generation["eos_token_id"] == [5, 7]


def test_another_quantization_cannot_be_asked_for(published: Path):
    with pytest.raises(ConfigError, match="holds q4f32_1 weights, and --quant asks for q4f16_1"):
        open_published(published, "q4f16_1")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"shape": [1, 2]}, "expected"),
        ({"dtype": "float32"}, "expected uint32"),
        ({"name": "other"}, "q_weight is missing"),
        ({"byteOffset": 1 << 40}, "doesn't lie in params_shard_0.bin"),
    ],
)
def test_weights_that_do_not_fit_are_named(published: Path, changes: dict[str, Any], part: str):
    change_index(published, **changes)
    with pytest.raises(CheckpointError, match=part):
        open_published(published, None)


def test_damaged_shards_are_named(published: Path):
    shard = published / "params_shard_0.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(CheckpointError, match=r"params_shard_0\.bin has another MD5"):
        open_published(published, None)
