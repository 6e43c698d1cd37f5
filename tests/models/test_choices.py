"""Which library of a bundle a CPU gets, and that weights, cache and library fit each other."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_edge import EngineConfig, MLCEngine
from mlc_edge.bundle import BundleTarget, Device, Needs, lock_files, read_lock, write_lock
from mlc_edge.cpu import CPU_TARGETS, Cpu, choose_target, host_cpu, suits
from mlc_edge.errors import BundleError
from mlc_edge.model_runner import ModelRunner, named_targets

INDEX = "cpu/tensor-cache.json"
FLOAT_BYTES = 4


@pytest.fixture
def copy(pocket_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pocket_bundle, tmp_path / pocket_bundle.name)


def offer(bundle: Path, targets: dict[str, Sequence[str]]) -> None:
    """Let the bundle have the same library under several names, with other needs."""
    lock = read_lock(bundle)
    (native, *_) = lock.targets.values()
    offered = {
        name: BundleTarget(
            native.device,
            native.library,
            native.parameters,
            native.parameter_bytes,
            Needs(tuple(needs)),
        )
        for name, needs in targets.items()
    }
    write_lock(bundle, replace(lock, targets=offered))


def target_of(bundle: Path, **config: object) -> str:
    with MLCEngine(bundle, EngineConfig(**config)) as engine:
        return engine.stats().target


@pytest.mark.parametrize("order", [("least", "best", "foreign"), ("foreign", "best", "least")])
def test_the_library_that_uses_most_of_this_cpu_is_taken(copy: Path, order: tuple[str, ...]):
    cpu = host_cpu()
    needs = {
        "least": (cpu.arch,),
        "best": (cpu.arch, *sorted(cpu.features)[:3]),
        "foreign": (cpu.arch, *sorted(cpu.features), "quantum"),
    }
    offer(copy, {name: needs[name] for name in order})
    assert target_of(copy) == "best"
    assert target_of(copy, target="least") == "least"


def test_a_library_that_needs_what_this_cpu_lacks_is_never_loaded(copy: Path):
    offer(copy, {"foreign": (host_cpu().arch, "quantum")})
    with pytest.raises(BundleError, match="foreign needs quantum"):
        MLCEngine(copy)
    offer(copy, {"foreign": (host_cpu().arch, "quantum"), "fitting": (host_cpu().arch,)})
    with pytest.raises(BundleError, match=r"no library for this CPU .* foreign needs quantum"):
        MLCEngine(copy, EngineConfig(target="foreign"))
    offer(copy, {"other": ("riscv64",)})
    with pytest.raises(BundleError, match="other needs riscv64"):
        MLCEngine(copy)


def test_a_name_means_one_target_or_the_group_of_gpus_libraries_that_it_begins(copy: Path):
    vulkan = ("vulkan-x86-64-f16", "vulkan-x86-64-software-f16")
    offer(copy, {name: () for name in ("x86-64-v4", "webgpu-f32", *vulkan)})
    lock = read_lock(copy)
    devices: dict[str, Device] = {"webgpu-f32": "webgpu", vulkan[0]: "vulkan", vulkan[1]: "vulkan"}
    targets = {
        name: replace(target, device=devices.get(name, target.device))
        for name, target in lock.targets.items()
    }
    write_lock(copy, lock := replace(lock, targets=targets))
    assert named_targets(lock, "vulkan") == named_targets(lock, "vulkan-x86-64") == [*vulkan]
    assert named_targets(lock, "vulkan-x86-64-software") == [vulkan[1]]
    assert named_targets(lock, "vulkan-x86-64-f16") == [vulkan[0]]
    assert named_targets(lock, "x86-64") == named_targets(lock, "x86-64-v") == []
    # A runner for CPUs takes none of them, whoever asks it.
    for name in ("webgpu-f32", "vulkan-x86-64"):
        with pytest.raises(BundleError, match="it has libraries for other devices only"):
            ModelRunner(copy, name)
    with pytest.raises(BundleError, match="no library for 'x86-64'"):
        ModelRunner(copy, "x86-64")


@pytest.mark.parametrize("board", ["pi4", "pi5", "jetson-thor", "aarch64", "x86-64", "x86-64-v4"])
def test_each_board_gets_its_own_library_of_a_bundle_for_all(copy: Path, board: str):
    offer(copy, dict(CPU_TARGETS))
    arch, *features = CPU_TARGETS[board]
    cpu = Cpu(arch, frozenset(features), "a board")
    assert set(CPU_TARGETS[choose_target(read_lock(copy), cpu)]) == set(CPU_TARGETS[board])
    assert set(CPU_TARGETS[suits(cpu) or ""]) == set(CPU_TARGETS[board])
    assert suits(Cpu("riscv64", frozenset(features), "another")) is None


def edit_index(bundle: Path, tensor: str, **fields: object) -> None:
    """Change a tensor's record, and let the lock agree."""
    index = json.loads((bundle / INDEX).read_text())
    (record,) = (r for s in index["records"] for r in s["records"] if r["name"] == tensor)
    record |= fields
    (bundle / INDEX).write_text(json.dumps(index))
    write_lock(bundle, replace(read_lock(bundle), files=lock_files(bundle)))


def matrix_of(bundle: Path) -> tuple[str, list[int]]:
    """A tensor whose extents differ."""
    index = json.loads((bundle / INDEX).read_text())
    records = [record for shard in index["records"] for record in shard["records"]]
    found = next(r for r in records if len(set(r["shape"])) > 1)
    return found["name"], found["shape"]


def test_weights_of_another_shape_are_refused_though_their_size_fits(copy: Path):
    name, shape = matrix_of(copy)
    edit_index(copy, name, shape=shape[::-1])
    with pytest.raises(BundleError, match="has shape") as caught:
        MLCEngine(copy)
    assert name in str(caught.value)
    assert str(shape) in str(caught.value) and str(shape[::-1]) in str(caught.value)


def test_weights_that_are_missing_are_named(copy: Path):
    name, _ = matrix_of(copy)
    edit_index(copy, name, name="other")
    with pytest.raises(BundleError, match=f"lacks {name}"):
        MLCEngine(copy)


def test_the_cache_takes_what_the_models_shape_says(copy: Path):
    """Keys and values of every layer and head, in float32, for every token."""
    model = json.loads((copy / "mlc-chat-config.json").read_text())["model_config"]
    width = model["num_key_value_heads"] * model["head_dim"]
    per_token = 2 * model["num_hidden_layers"] * width * FLOAT_BYTES
    with MLCEngine(copy, EngineConfig(max_total_tokens=256)) as engine:
        stats = engine.stats()
    assert stats.kv_tokens_total >= 256
    assert stats.kv_cache_bytes == stats.kv_tokens_total * per_token
    assert stats.parameter_bytes == read_lock(copy).targets["native"].parameter_bytes
