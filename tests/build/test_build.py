import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.bundle import ABI_VERSION, verify
from tests.build.conftest import ROOT, build_command, run_build

MLC_FUNCTIONS = """
    embed prefill decode batch_prefill batch_decode batch_verify create_tir_paged_kv_cache
    apply_logit_bias_inplace apply_penalty_inplace apply_bitmask_inplace softmax_with_temperature
    argsort_probs sample_with_top_p _metadata self_test_prefill self_test_decode self_test_attention
""".split()
RUNTIME_FUNCTIONS = """
    vm.builtin.kv_state_clear vm.builtin.kv_state_add_sequence vm.builtin.kv_state_remove_sequence
    vm.builtin.kv_state_begin_forward vm.builtin.kv_state_end_forward
    vm.builtin.attention_kv_cache_enable_sliding_window_for_seq vm.builtin.tensor_cache.get
    vm.builtin.tensor_cache.update vm.builtin.tensor_cache.remove vm.builtin.tensor_cache.clear
    vm.builtin.param_module_from_cache vm.builtin.param_module_from_cache_by_name
    tvmjs.array.decode_storage tvmjs.runtime.ArrayConcat tvmjs.runtime.ConcatEmbeddings
""".split()
# What MLC's C++ runtime looks up in the metadata of a model with attention (cpp/metadata/model.cc).
MLC_METADATA = {
    "model_type": "llama",
    "quantization": "q4f16_1",
    "context_window_size": 256,
    "prefill_chunk_size": 256,
    "max_batch_size": 4,
    "sliding_window_size": -1,
    "attention_sink_size": -1,
    "tensor_parallel_shards": 1,
    "pipeline_parallel_stages": 1,
    "disaggregation": False,
    "kv_state_kind": "kv_cache",
    "kv_cache": {
        "num_hidden_layers": 2,
        "head_dim": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
}
BROWSER_TARGETS = [
    f"webgpu{kind}-{dtype}" for kind in ("", "-software") for dtype in ("f16", "f32")
]
LARGEST_LIBRARY = 800_000


def load_in_node(library: Path) -> dict[str, Any]:
    command = ["node", str(ROOT / "tests/build/loading.cjs"), str(library), *MLC_FUNCTIONS]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_bundle_is_whole_and_named_by_its_folder(browser_bundle: Path):
    lock = verify(browser_bundle)
    assert lock.model.id == "tiny-q4f16_1"
    assert lock.model.context_window_size == 256
    assert lock.model.parameters == sum((2 * 1024 * 64, 2 * (3 * 64 * 80 + 2 * 64), 64)) + 2 * (
        64 * 64 * 2 + 2 * 32 * 64
    )
    assert {file.path for file in lock.files} == {
        "generation_config.json",
        *(f"lib/{target}.wasm" for target in BROWSER_TARGETS),
        "mlc-chat-config.json",
        "params_shard_0.bin",
        "tensor-cache.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_targets_share_weights_and_differ_in_needs(browser_bundle: Path):
    targets = verify(browser_bundle).targets
    assert {name: targets[name].needs.features for name in BROWSER_TARGETS} == {
        "webgpu-f32": (),
        "webgpu-f16": ("shader-f16",),
        "webgpu-software-f32": (),
        "webgpu-software-f16": ("shader-f16",),
    }
    assert targets["webgpu-f16"].needs.adapter == {}
    assert targets["webgpu-software-f16"].needs.adapter == {"isSoftware": 1}
    # What WebGPU guarantees.
    for target in targets.values():
        assert target.device == "webgpu"
        assert target.needs.limits["maxStorageBuffersPerShaderStage"] <= 8
    assert {target.parameters for target in targets.values()} == {"tensor-cache.json"}
    # The float32 library keeps widened scales in device memory.
    assert targets["webgpu-f16"].parameter_bytes < targets["webgpu-f32"].parameter_bytes


@pytest.mark.parametrize("target", BROWSER_TARGETS)
def test_a_library_loads_in_tvmjs_and_names_mlcs_functions(browser_bundle: Path, target: str):
    offered = load_in_node(browser_bundle / "lib" / f"{target}.wasm")
    assert offered["missing"] == []
    assert not set(RUNTIME_FUNCTIONS) - set(offered["globals"])
    stages = offered["metadata"]["kernels"]
    assert set(stages) == {"prefill", "decode", "kv_cache", "self_test", "sampling", "drawing"}
    named = {program for stage in stages.values() for program in stage}
    launched = {re.sub(r"_kernel(_\d+)?$", "", kernel) for kernel in offered["kernels"]}
    assert named & launched and not {p for p in named - launched if "shape_func" not in p}


@pytest.mark.parametrize("target", ["webgpu-f16", "webgpu-f32"])
def test_the_self_test_computes_with_the_models_kernels(browser_bundle: Path, target: str):
    stages = load_in_node(browser_bundle / "lib" / f"{target}.wasm")["metadata"]["kernels"]
    models = {kernel for stage in ("prefill", "decode", "kv_cache") for kernel in stages[stage]}
    own = set(stages["self_test"]) - models
    # A function's result that is a view is copied.
    assert len(stages["self_test"]) >= 10 and all(name.startswith("reshape") for name in own)
    assert not [name for name in models if name.startswith("reshape")]


@pytest.mark.parametrize("target", ["webgpu-f16", "webgpu-f32"])
def test_a_layer_of_a_step_is_one_program_with_what_surrounds_it(browser_bundle: Path, target: str):
    """Norms before it, activations and residuals after it: each is a dispatch less."""
    stages = load_in_node(browser_bundle / "lib" / f"{target}.wasm")["metadata"]["kernels"]
    embedding, *others = (re.sub(r"\d+", "", name) for name in stages["decode"])
    # Queries, keys and values; output; gate and up; logits. What reads 80 features has no whole groups.
    assert sorted(others) == ["fused_q_linear_add", *4 * ["matvec"], "rms_norm"]
    assert embedding == "q_take"


def test_a_librarys_parameters_are_those_of_the_weights(browser_bundle: Path):
    index = json.loads((browser_bundle / "tensor-cache.json").read_text())
    stored = {r["name"]: r["shape"] for shard in index["records"] for r in shard["records"]}
    metadata = load_in_node(browser_bundle / "lib/webgpu-f16.wasm")["metadata"]
    assert {p["name"]: p["shape"] for p in metadata["params"]} == stored
    assert metadata["abi_version"] == ABI_VERSION


def test_a_librarys_metadata_has_what_mlcs_runtime_reads(browser_bundle: Path):
    metadata = load_in_node(browser_bundle / "lib/webgpu-f32.wasm")["metadata"]
    assert {field: metadata[field] for field in MLC_METADATA} == MLC_METADATA
    assert metadata["memory_usage"].keys() >= {"prefill", "batch_decode", "argsort_probs"}
    assert all(isinstance(size, int) for size in metadata["memory_usage"].values())
    for parameter in metadata["params"]:
        assert parameter["preprocs"] == [] and parameter["pipeline_stages"] == [0]


def test_a_library_is_small_to_download(browser_bundle: Path):
    for library in (browser_bundle / "lib").iterdir():
        assert len(gzip.compress(library.read_bytes())) < LARGEST_LIBRARY


def test_the_chat_configuration_has_mlcs_fields(browser_bundle: Path):
    config = json.loads((browser_bundle / "mlc-chat-config.json").read_text())
    assert config["version"] == "0.1.0"
    assert config["model_type"] == "llama"
    assert config["quantization"] == "q4f16_1"
    assert config["context_window_size"] == 256
    assert config["sliding_window_size"] == -1
    assert config["vocab_size"] == config["active_vocab_size"] == 1024
    assert config["eos_token_id"] == [2, 0]
    # The checkpoint's generation_config.json says do_sample: false.
    assert config["temperature"] == 0
    assert config["top_p"] == config["repetition_penalty"] == 1
    assert config["presence_penalty"] == config["frequency_penalty"] == 0
    assert config["model_config"]["num_key_value_heads"] == 1


def test_building_again_changes_nothing(checkpoint: Path, native_bundle: Path):
    before = (native_bundle / "mlc-lock.json").stat()
    options = ("--target", "native", "--quant", "q4f32_1", "-o", native_bundle)
    result = run_build(checkpoint, *options)
    assert "up to date" in result.stdout
    assert (native_bundle / "mlc-lock.json").stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_bundle_is_built_anew_byte_for_byte(
    checkpoint: Path, native_bundle: Path, tmp_path: Path
):
    copy = shutil.copytree(native_bundle, tmp_path / native_bundle.name)
    shard = copy / "cpu/params_shard_0.bin"
    whole = shard.read_bytes()
    shard.write_bytes(b"\0" * len(whole))
    result = run_build(checkpoint, "--target", "native", "--quant", "q4f32_1", "-o", copy)
    assert result.returncode == 0, result.stderr
    assert shard.read_bytes() == whole
    assert verify(copy) == verify(native_bundle)
    assert [path.name for path in tmp_path.iterdir()] == [copy.name]


def test_a_killed_build_leaves_no_bundle_and_does_not_hinder_the_next(
    checkpoint: Path, tmp_path: Path
):
    output = tmp_path / "out"
    command = build_command(checkpoint, "--target", "native", "-o", output)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("compiling"):
                process.kill()
                break
    assert not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    result = run_build(checkpoint, "--target", "native", "-o", output)
    assert result.returncode == 0, result.stderr
    assert verify(output).model.id == "out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_build_leaves_what_was_there(
    checkpoint: Path, native_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = shutil.copytree(native_bundle, tmp_path / "bundle")
    broken = tmp_path / "bin" / "em++"
    broken.parent.mkdir()
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo 1.2.3 || { echo broken >&2; exit 1; }\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    monkeypatch.setenv("MLC_EDGE_CACHE", str(tmp_path / "cache"))
    result = run_build(checkpoint, "--target", "webgpu-f32", "-o", before)
    assert result.returncode == 2
    assert "broken" in result.stderr
    assert verify(before).targets.keys() == {"native"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "bundle", "cache"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--quant", "q5"), "q0f32, q0f16, q4f32_1, q4f16_1"),
        (("--target", "amiga"), "webgpu"),
        (("--context-window-size", "512"), "256 tokens"),
    ],
)
def test_a_wrong_flag_is_one_clear_error(
    checkpoint: Path, tmp_path: Path, options: tuple[str, ...], part: str
):
    result = run_build(checkpoint, *options, "-o", tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert part in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_name_that_fits_no_url_is_refused(checkpoint: Path, tmp_path: Path):
    result = run_build(checkpoint, "-o", tmp_path / "my model")
    assert result.returncode == 2
    assert "part of its URL" in result.stderr


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_other_things_are_not_overwritten(checkpoint: Path, tmp_path: Path, kind: str):
    output = tmp_path / "thesis"
    if kind == "file":
        output.write_text("years of work")
    else:
        output.mkdir()
        (output / "chapter-1").write_text("years of work")
    result = run_build(checkpoint, "-o", output)
    assert result.returncode == 2
    assert "--output" in result.stderr
    assert "years of work" in (output if kind == "file" else output / "chapter-1").read_text()
