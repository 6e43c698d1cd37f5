"""A bundle as a build's input: its weights go back into the standard order, and its lock is kept to."""

import contextlib
import hashlib
import io
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm.contrib import tvmjs

from mlc_edge.bundle import LOCK_NAME, verify
from mlc_edge.errors import CheckpointError
from tests.build.checkpoints import CONFIG, write_checkpoint
from tests.build.conftest import run_build
from tests.build.mlc_reader import read_tensors
from tests.build.published import chat_config, write_standard_set
from webbuild.fingerprint import build_fingerprint
from webbuild.interleaved import interleave
from webbuild.published import open_published

SHARD = "cpu/params_shard_0.bin"
STANDARD = ("tensor-cache.json", "params_shard_0.bin")
Q4 = ("q4f16_1", "q4f32_1")


@pytest.fixture
def downloaded(native_bundle: Path, tmp_path: Path) -> Path:
    """A bundle for CPUs as it comes from the network: without its library."""
    return shutil.copytree(
        native_bundle, tmp_path / "downloaded", ignore=shutil.ignore_patterns("lib")
    )


def only_interleaved(folder: Path, checkpoint: Path, quantization: str) -> Path:
    """A folder with the standard set's interleaved form, without a lock."""
    interleave(folder, lambda _: None)
    for name in STANDARD:
        (folder / name).unlink()
    config = json.loads((checkpoint / "config.json").read_text())
    (folder / "mlc-chat-config.json").write_text(json.dumps(chat_config(config, quantization)))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(checkpoint / name, folder / name)
    return folder


def standard_set(folder: Path, output: Path) -> Path:
    output.mkdir()
    weights = open_published(folder, None)
    written: list[int] = []
    weights.copy_weights(output, written.append)
    assert sum(written) == weights.total_bytes
    return output


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def error_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_published(folder, None)
    return str(caught.value)


def test_a_downloaded_bundle_is_compiled_here(
    downloaded: Path, native_bundle: Path, tmp_path: Path
):
    output = tmp_path / native_bundle.name
    result = run_build(downloaded, "--target", "native", "-o", output)
    assert result.returncode == 0, result.stderr
    rebuilt, original = verify(output), verify(native_bundle)
    assert (rebuilt.model, rebuilt.targets) == (original.model, original.targets)
    for file in original.files:
        assert (output / file.path).read_bytes() == (native_bundle / file.path).read_bytes()


def test_other_weights_are_another_build(downloaded: Path):
    before = build_fingerprint(downloaded, ("q4f32_1",))
    assert build_fingerprint(downloaded, ("q4f32_1",)) == before
    assert build_fingerprint(downloaded, ("q4f16_1",)) != before
    (downloaded / SHARD).write_bytes(b"other")
    assert build_fingerprint(downloaded, ("q4f32_1",)) != before


@pytest.mark.parametrize("quantization", Q4)
@pytest.mark.parametrize(
    "changes", [{}, {"vocab_size": 1031, "tie_word_embeddings": True}], ids=["plain", "odd"]
)
def test_interleaving_is_undone_byte_for_byte(
    tmp_path: Path, quantization: str, changes: dict[str, Any]
):
    checkpoint = write_checkpoint(tmp_path / "checkpoint", **changes)
    expected = write_standard_set(tmp_path / "expected", checkpoint, quantization)
    bundle = only_interleaved(
        shutil.copytree(expected, tmp_path / "bundle"), checkpoint, quantization
    )
    found = standard_set(bundle, tmp_path / "found")
    assert sorted(path.name for path in found.iterdir()) == sorted(STANDARD)
    for name in STANDARD:
        assert (found / name).read_bytes() == (expected / name).read_bytes()


def test_scales_that_bfloat16_cannot_hold_are_kept(tmp_path: Path, checkpoint: Path):
    standard = write_standard_set(tmp_path / "standard", checkpoint, "q4f32_1")
    tensors = read_tensors(standard)
    name = "model.layers.1.mlp.down_proj.q_scale"
    tensors[name] = tensors[name] + np.float32(1e-6)
    raw = tmp_path / "raw"
    with contextlib.redirect_stdout(io.StringIO()):
        tvmjs.dump_tensor_cache(tensors, str(raw), encode_format="raw")
    bundle = only_interleaved(raw, checkpoint, "q4f32_1")
    found = read_tensors(standard_set(bundle, tmp_path / "found"))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_values_that_the_format_cannot_hold_are_named(tmp_path: Path, checkpoint: Path):
    standard = write_standard_set(tmp_path / "bundle", checkpoint, "q4f16_1")
    bundle = only_interleaved(standard, checkpoint, "q4f16_1")
    index = json.loads((bundle / "cpu/tensor-cache.json").read_text())
    (shard,) = index["records"]
    norm = next(r for r in shard["records"] if r["name"] == "model.norm.weight")
    content = bytearray((bundle / SHARD).read_bytes())
    content[norm["byteOffset"] : norm["byteOffset"] + 4] = np.float32(1e6).tobytes()
    (bundle / SHARD).write_bytes(content)
    shard["md5sum"] = hashlib.md5(content).hexdigest()
    (bundle / "cpu/tensor-cache.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight holds values that float16"):
        standard_set(bundle, tmp_path / "found")


def test_a_bundle_for_browsers_is_taken_as_it_is(browser_bundle: Path):
    weights = open_published(browser_bundle, None)
    assert weights.index == "tensor-cache.json"
    assert weights.formats.quantization.name == "q4f16_1"
    assert weights.model.context_length == 256


@pytest.mark.parametrize("name", [SHARD, "cpu/tensor-cache.json", "tokenizer.json"])
def test_a_file_that_its_lock_does_not_know_is_refused(downloaded: Path, name: str):
    content = (downloaded / name).read_bytes()
    (downloaded / name).write_bytes(content[:-1] + b" ")
    assert f"{name} has another SHA-256 than the lock says" in error_of(downloaded)
    (downloaded / name).write_bytes(content + b" ")
    assert f"{name} has {len(content) + 1} bytes, expected {len(content)}" in error_of(downloaded)


def test_a_file_that_the_lock_leaves_out_is_not_read(downloaded: Path):
    (downloaded / "chat_template.jinja").write_text("{{ messages }}")
    assert "mlc-lock.json doesn't name chat_template.jinja" in error_of(downloaded)


def test_a_damaged_lock_is_named(downloaded: Path):
    change_json(downloaded / LOCK_NAME, files=5)
    assert "mlc-lock.json is damaged: files is 5, expected list" in error_of(downloaded)
    (downloaded / LOCK_NAME).write_text("[" * 100_000)
    assert "mlc-lock.json is not JSON" in error_of(downloaded)


def test_a_link_out_of_the_bundle_is_refused(downloaded: Path, tmp_path: Path):
    (downloaded / "cpu").rename(tmp_path / "elsewhere")
    (downloaded / "cpu").symlink_to(tmp_path / "elsewhere")
    assert "cpu/tensor-cache.json is a link out of the folder" in error_of(downloaded)


def test_an_interleaved_set_of_another_model_is_refused(tmp_path: Path, checkpoint: Path):
    standard = write_standard_set(tmp_path / "bundle", checkpoint, "q4f16_1")
    bundle = only_interleaved(standard, checkpoint, "q4f16_1")
    config = chat_config({**CONFIG, "intermediate_size": 96}, "q4f16_1")
    (bundle / "mlc-chat-config.json").write_text(json.dumps(config))
    name = "model.layers.0.mlp.gate_up_proj.q_weight"
    assert f"{name} is uint8 [10, 2, 256], expected uint8 [12, 2, 256]" in error_of(bundle)


def test_memory_stays_below_two_of_the_largest_tensors(tmp_path: Path):
    shape = {"vocab_size": 16384, "hidden_size": 256, "intermediate_size": 256}
    checkpoint = write_checkpoint(tmp_path / "checkpoint", **shape)
    standard = write_standard_set(tmp_path / "bundle", checkpoint, "q4f16_1")
    bundle = only_interleaved(standard, checkpoint, "q4f16_1")
    weights = open_published(bundle, None)
    output = tmp_path / "found"
    output.mkdir()
    tracemalloc.start()
    try:
        weights.copy_weights(output, lambda _: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 16384 * 256 // 2
