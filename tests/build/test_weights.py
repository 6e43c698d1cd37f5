import hashlib
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.build.checkpoints import random_tensors, write_checkpoint, write_sharded_checkpoint
from tests.build.mlc_reader import layer_weight, read_records, read_tensors
from tests.build.nearest import NearestQuantizer
from webbuild.checkpoint import open_checkpoint
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import QUANTIZATIONS, WeightFormats
from webbuild.safetensors_file import read_header
from webbuild.tensor_cache import WeightPlan, plan_weights, write_weights

MIB = 1 << 20


def write(checkpoint_folder: Path, output: Path, quantization: str) -> Path:
    checkpoint = open_checkpoint(checkpoint_folder)
    output.mkdir()
    chosen = QUANTIZATIONS[quantization]
    plan = plan_weights(checkpoint.table, choose_formats(checkpoint.table, chosen))
    write_weights(output, plan, checkpoint.tensors, NearestQuantizer(chosen), lambda _: None)
    return output


QUANTISED = [name for name, format in QUANTIZATIONS.items() if format.linear.bits]


@pytest.mark.parametrize("quantization", QUANTISED)
def test_fused_and_quantised_weights_read_back(tmp_path: Path, quantization: str):
    source = write_checkpoint(tmp_path / "source")
    tensors = read_tensors(write(source, tmp_path / "out", quantization))
    config = json.loads((source / "config.json").read_text())
    original = random_tensors(config)
    layer = "model.layers.1"
    fused = {
        f"{layer}.self_attn.qkv_proj": [f"{layer}.self_attn.{x}_proj" for x in "qkv"],
        f"{layer}.mlp.gate_up_proj": [f"{layer}.mlp.{x}_proj" for x in ("gate", "up")],
        f"{layer}.mlp.down_proj": [f"{layer}.mlp.down_proj"],
        "model.embed_tokens": ["model.embed_tokens"],
        "lm_head": ["lm_head"],
    }
    for name, parts in fused.items():
        expected = np.concatenate([original[f"{part}.weight"] for part in parts])
        words, scales = tensors[f"{name}.q_weight"], tensors[f"{name}.q_scale"]
        assert words.dtype == np.uint32
        assert scales.dtype == (np.float32 if "f32" in quantization else np.float16)
        vocabulary = name in ("model.embed_tokens", "lm_head")
        bits = 8 if vocabulary or quantization.startswith("q8") else 4
        assert words.shape[1] == scales.shape[1] * bits
        restored = layer_weight(name, tensors, expected.shape[1])
        # Scales that are rounded to bfloat16 move the value farthest from zero.
        slack = 0.5 + 2.0**bits / 256 if "f32" in quantization else 0.53
        assert np.abs(restored - expected).max() <= float(scales.max()) * slack
    norm = tensors[f"{layer}.input_layernorm.weight"]
    assert np.allclose(norm, original[f"{layer}.input_layernorm.weight"], atol=1e-4)


def test_full_precision_is_exact(tmp_path: Path):
    source = write_checkpoint(tmp_path / "source", tie_word_embeddings=True)
    tensors = read_tensors(write(source, tmp_path / "out", "q0f32"))
    original = random_tensors(json.loads((source / "config.json").read_text()))
    assert (tensors["model.embed_tokens.weight"] == original["model.embed_tokens.weight"]).all()
    assert "lm_head.weight" not in tensors
    assert not any(name.endswith(("q_weight", "q_scale")) for name in tensors)


def test_sharded_and_single_checkpoints_give_the_same_files(tmp_path: Path):
    one = write(write_checkpoint(tmp_path / "a"), tmp_path / "out-a", "q4f16_1")
    two = write(write_sharded_checkpoint(tmp_path / "b"), tmp_path / "out-b", "q4f16_1")
    files = sorted(path.name for path in one.iterdir())
    assert files == sorted(path.name for path in two.iterdir())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


@pytest.mark.parametrize("shard_bytes", [32 * MIB, 16 << 10])
def test_the_index_describes_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int
):
    monkeypatch.setattr("webbuild.tensor_cache.SHARD_BYTES", shard_bytes)
    folder = write(write_checkpoint(tmp_path / "source"), tmp_path / "out", "q4f32_1")
    index = json.loads((folder / "tensor-cache.json").read_text())
    assert (len(index["records"]) > 4) == (shard_bytes < MIB)
    total = 0
    for shard in index["records"]:
        content = (folder / shard["dataPath"]).read_bytes()
        assert shard["format"] == "raw-shard"
        assert shard["nbytes"] == len(content)
        assert shard["md5sum"] == hashlib.md5(content).hexdigest()
        total += len(content)
    records = read_records(folder)
    formats = {name.rsplit(".", 1)[1]: record["format"] for name, record in records.items()}
    assert formats == {"q_weight": "raw", "q_scale": "f32-to-bf16", "weight": "raw"}
    assert index["metadata"]["ParamSize"] == len(records)
    assert index["metadata"]["ParamBytes"] == total
    assert 4.5 <= index["metadata"]["BitsPerParam"] < 8.5


def spec(name: str, mebibytes: float) -> ParameterSpec:
    return ParameterSpec(name, (int(mebibytes * MIB) // 4096, 1024), (name,), quantized=False)


def layout(plan: WeightPlan) -> list[list[str]]:
    shards: list[list[str]] = [[] for _ in plan.shard_bytes]
    for name, placements in plan.placements.items():
        for placement in placements:
            shards[placement.shard].append(name)
    return shards


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10, 10, 10, 10], [["a", "b", "c"], ["d"]]),
        ([32, 1], [["a"], ["b"]]),
        # Half a shard or more that doesn't fit: its own shard, and the one before goes on.
        ([20, 16, 12, 1], [["a", "c"], ["b"], ["d"]]),
        ([1, 100, 1], [["a", "c"], ["b"]]),
    ],
)
def test_shards_fill_like_mlcs(sizes: Sequence[int], expected: list[list[str]]):
    table = [spec(name, size) for name, size in zip("abcd", sizes, strict=False)]
    assert layout(plan_weights(table, WeightFormats(QUANTIZATIONS["q0f32"], {}))) == expected


@pytest.mark.parametrize("quantization", list(QUANTIZATIONS))
def test_memory_stays_below_two_of_the_largest_tensors(tmp_path: Path, quantization: str):
    names = [f"layers.{index}" for index in range(12)]
    weights = {name: np.full((1024, 1024), 0.5, np.float32) for name in names}
    save_file(weights, tmp_path / "model.safetensors")
    del weights
    table = [ParameterSpec(f"{n}.weight", (1024, 1024), (n,), quantized=True) for n in names]
    sources, _ = read_header(tmp_path / "model.safetensors")
    chosen = QUANTIZATIONS[quantization]
    plan = plan_weights(table, WeightFormats(chosen, {}))
    tracemalloc.start()
    try:
        write_weights(tmp_path, plan, sources, NearestQuantizer(chosen), lambda _: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024 * 4
