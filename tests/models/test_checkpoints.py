"""Checkpoint folders: compiled once, again when they change, by one process at a time."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.bundle import read_lock, verify
from mlc_edge.cpu import VULKAN_TARGETS, host_cpu
from tests.models.conftest import Machine


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "My model")


@dataclass(frozen=True)
class Used:
    """A checkpoint after its first use; tests leave it compiled."""

    machine: Machine
    folder: Path
    first: dict[str, Any]


@pytest.fixture(scope="module")
def used(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Used:
    machine = Machine(tmp_path_factory.mktemp("machine"), "http://127.0.0.1:9")
    folder = shutil.copytree(checkpoint, machine.folder / "My model")
    return Used(machine, folder, machine.resolve(folder))


def compiles(result: dict[str, Any]) -> bool:
    return any("compiling" in step for step, _ in result["steps"])


def test_a_bundle_is_taken_as_it_is(machine: Machine, bundle: Path):
    assert machine.resolve(bundle) == {"bundle": str(bundle.resolve()), "steps": []}


def test_a_checkpoint_is_compiled_on_first_use(used: Used):
    bundle = Path(used.first["bundle"])
    assert compiles(used.first)
    # The build's own stages are told, too.
    assert len({step for step, _ in used.first["steps"]}) > 1
    assert bundle.is_relative_to(used.machine.folder / "compiled")
    assert bundle.name == "My-model-q4f16_1"
    assert verify(bundle).model.quantization == "q4f16_1"
    assert used.machine.resolve(used.folder) == {"bundle": str(bundle), "steps": []}


def test_a_damaged_bundle_is_compiled_again(used: Used):
    bundle = Path(used.first["bundle"])
    next(bundle.glob("lib/*")).unlink()
    assert compiles(used.machine.resolve(used.folder))
    verify(bundle)


def test_a_changed_checkpoint_is_compiled_again(used: Used):
    path = used.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": 128}))
    after = used.machine.resolve(used.folder)
    assert compiles(after)
    assert after["bundle"] != used.first["bundle"]
    assert read_lock(Path(after["bundle"])).model.context_window_size == 128


def test_processes_that_want_the_same_model_compile_it_once(machine: Machine, folder: Path):
    processes = [machine.start(folder) for _ in range(3)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    results = [json.loads(output) for output, _ in outputs]
    assert len({result["bundle"] for result in results}) == 1
    assert sum(compiles(result) for result in results) == 1


def test_a_folder_without_a_model_is_refused(machine: Machine, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    done = machine.chat(tmp_path / "empty")
    assert done.returncode == 2
    assert "is neither a bundle (no mlc-lock.json) nor a checkpoint" in done.stderr


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_says_so(machine: Machine, folder: Path, name: str):
    (folder / name).write_text("{")
    done = machine.chat(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: compiling the model failed:" in done.stderr
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_that_are_missing_are_named(machine: Machine, folder: Path):
    weights = next(folder.glob("*.safetensors"))
    weights.unlink()
    done = machine.chat(folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_written_to_says_so(machine: Machine, folder: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    done = machine.chat(folder, MLC_EDGE_CACHE=str(tmp_path / "file"))
    assert done.returncode == 2
    assert "set MLC_EDGE_CACHE" in done.stderr


def test_no_name_means_the_embedded_model(machine: Machine):
    assert Path(machine.resolve()["bundle"]).name == "pocket-q4f16_1"


def test_several_targets_share_a_bundle(machine: Machine, folder: Path):
    gpu = f"vulkan-{VULKAN_TARGETS[host_cpu().arch]}-software-f32"
    bundle = Path(machine.resolve(folder, f"--target=native,{gpu}")["bundle"])
    assert set(read_lock(bundle).targets) == {"native", gpu}
    again = machine.resolve(folder, f"--target=native,{gpu}")
    assert again == {"bundle": str(bundle), "steps": []}


def test_a_target_that_can_not_be_compiled_is_left_out(machine: Machine, folder: Path):
    result = machine.resolve(folder, "--target=native,vulkan-unknown")
    assert list(read_lock(Path(result["bundle"])).targets) == ["native"]
    (told,) = (step for step, _ in result["steps"] if step.startswith("compiling for native alone"))
    assert "unknown target 'vulkan-unknown'" in told
    # Which isn't tried at each start.
    assert machine.resolve(folder, "--target=native,vulkan-unknown")["steps"] == []
