"""`mlc-edge doctor`: what it says of this machine, and of boards that look like others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.doctor.diagnosis import DECODE_EFFICIENCY, STEP_OVERHEAD_S, Diagnosis, diagnose
from edge.doctor.report import print_report
from mlc_edge.bundle import read_lock
from mlc_edge.cpu import host_cpu, suits
from tests.build.conftest import ROOT
from tests.devices.roots import PI4, PI5, Files, memory, write_root, zone

FIELDS = {
    "board": str,
    "kind": str,
    "system": str,
    "cpu": dict,
    "cores": int,
    "profile": dict,
    "memory_total_bytes": int,
    "memory_available_bytes": int,
    "memory_bandwidth": float,
    "gpu": str | None,
    "vulkan": list,
    "plugin": str | None,
    "adapters": list | None,
    "gpus": list,
    "no_gpus": str,
    "temperature_c": float | None,
    "throttled": list,
    "disk_free_bytes": int,
    "versions": dict,
    "target": str,
    "models": list,
    "model": dict | None,
    "problems": list,
    "usable": bool,
}
FIT_FIELDS = {
    "name": str,
    "weight_bytes": int,
    "context_tokens": int,
    "memory_bytes": int,
    "fits": bool,
    "expected_decode_tokens_per_s": float,
}
EMBEDDED = ROOT / "models/pocket"


def doctor(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlc_edge", "doctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120", **environment},
        timeout=120,
    )


def json_of(*arguments: object, exit_code: int = 0) -> dict[str, Any]:
    done = doctor("--json", *arguments)
    assert done.returncode == exit_code, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def whats(diagnosis: Diagnosis) -> str:
    return "; ".join(problem.what for problem in diagnosis.problems)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return json_of()


def test_people_read_what_this_machine_is() -> None:
    done = doctor()
    assert done.returncode == 0, done.stderr
    assert host_cpu().model in done.stdout
    for text in (str(suits(host_cpu())), "GB/s measured", "Llama 3.2 1B", "Time of a token"):
        assert text in done.stdout


def test_programs_read_all_fields(found: dict[str, Any]) -> None:
    assert list(found) == list(FIELDS)
    assert [name for name, kind in FIELDS.items() if not isinstance(found[name], kind)] == []
    assert found["cpu"]["features"] == sorted(host_cpu().features)
    assert set(found["versions"]) == {"mlc-edge", "apache-tvm", "python"}
    assert set(found["profile"]) == {
        "prefill_threads",
        "decode_threads",
        "memory_reserve_bytes",
        "cores_free",
    }


def test_speed_and_memory_of_models_follow_from_what_was_measured(found: dict[str, Any]) -> None:
    assert found["memory_bandwidth"] > 1e8
    reserve = found["profile"]["memory_reserve_bytes"]
    available = found["memory_available_bytes"]
    for model in found["models"]:
        assert {name: type(value) for name, value in model.items()} == FIT_FIELDS
        seconds = model["weight_bytes"] / (found["memory_bandwidth"] * DECODE_EFFICIENCY)
        expected = 1 / (seconds + STEP_OVERHEAD_S)
        assert model["expected_decode_tokens_per_s"] == pytest.approx(expected)
        assert model["fits"] == (model["memory_bytes"] <= available - min(reserve, available // 2))
    sizes = {model["name"]: model["weight_bytes"] for model in found["models"]}
    # As llama.cpp's files in Q4_0 have it, within a tenth.
    assert sizes["TinyLlama 1.1B"] == pytest.approx(638e6, rel=0.1)


def test_a_bundle_is_judged_by_its_library_for_this_cpu(bundle: Path) -> None:
    model = json_of(bundle)["model"]
    (target,) = read_lock(bundle).targets.values()
    assert model["name"] == f"{read_lock(bundle).model.id} (q4 90%, q8 10%)"
    assert model["weight_bytes"] == target.parameter_bytes
    assert (model["fits"], model["context_tokens"]) == (True, 1024)


def test_a_checkpoint_is_judged_before_it_is_compiled(bundle: Path) -> None:
    found = json_of(EMBEDDED)
    (compiled,) = read_lock(bundle).targets.values()
    assert found["usable"]
    assert found["model"]["name"] == "pocket"
    assert found["model"]["weight_bytes"] == pytest.approx(compiled.parameter_bytes, rel=0.1)


def test_a_bundle_without_a_library_for_this_cpu_cannot_run(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    lock = json.loads((bundle / "mlc-lock.json").read_text())
    lock["targets"]["native"]["needs"]["features"] = ["riscv64"]
    (other / "mlc-lock.json").write_text(json.dumps(lock))
    found = json_of(other, exit_code=1)
    assert (found["usable"], found["model"]) == (False, None)
    assert "native needs riscv64" in found["problems"][-1]["remedy"]


def test_a_damaged_checkpoint_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((EMBEDDED / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "no safetensors file" in json_of(tmp_path, exit_code=1)["problems"][-1]["remedy"]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").unlink()
    assert "doesn't say its shape" in json_of(tmp_path, exit_code=1)["problems"][-1]["remedy"]


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    done = doctor(tmp_path)
    assert done.returncode == 2
    assert "neither a bundle" in done.stderr
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    done = doctor(tmp_path / "model.gguf")
    assert done.returncode == 2
    assert "mlc-edge build" in done.stderr


def test_a_missing_linker_is_named_with_its_remedy(tmp_path: Path) -> None:
    done = doctor(PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Install g++" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (PI4, "the power supply is too weak; the device is held back: frequency capped"),
        ({**PI5, **zone(0, "cpu-thermal", 84100)}, "it is hot: 84 °C"),
    ],
)
def test_a_boards_troubles_are_named(tmp_path: Path, files: Files, problem: str) -> None:
    diagnosis = diagnose(None, write_root(tmp_path, files))
    assert problem in whats(diagnosis)
    assert diagnosis.usable


def test_a_healthy_board_has_no_trouble(tmp_path: Path) -> None:
    told = whats(diagnose(None, write_root(tmp_path, PI5)))
    assert not [word for word in ("power", "held back", "hot") if word in told]


def test_models_that_are_too_large_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_root(tmp_path, {**PI4, **memory(4, 2)})
    diagnosis = diagnose(str(EMBEDDED), root)
    fits = {fit.name: fit.fits for fit in diagnosis.models}
    assert fits["Llama 3.2 1B"] and not fits["Llama 3.2 3B"] and not fits["Llama 3.1 8B"]
    print_report(diagnosis)
    lines = [line for line in capsys.readouterr().out.splitlines() if "Llama 3.1 8B" in line]
    assert " no " in lines[0]


def test_a_model_that_is_too_large_cannot_run(tmp_path: Path) -> None:
    root = write_root(tmp_path, {"proc/meminfo": "MemTotal: 65536 kB\nMemAvailable: 65536 kB\n"})
    diagnosis = diagnose(str(EMBEDDED), root)
    assert not diagnosis.usable
    assert diagnosis.model is not None and not diagnosis.model.fits
    assert "pocket needs" in whats(diagnosis)
