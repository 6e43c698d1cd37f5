"""Raspberry Pis: the daemon answers as on x86-64, each CPU takes its library, none gets a wrong one."""

import json
import os
from pathlib import Path

import pytest

from mlc_edge import EngineConfig, MLCEngine
from tests.arm.conftest import RunOnArm
from tests.arm.root import ArmRoot
from tests.daemon.daemons import started
from tests.packages import copy_packages

BOARDS = [("cortex-a72", "pi4"), ("cortex-a76", "pi5")]
QUESTIONS = ("What is the capital of France?", "What is 12 + 30?", "Tell me a story.")


@pytest.fixture(scope="session")
def answers(bundle: Path) -> list[str]:
    """What this machine's library says."""
    with MLCEngine(bundle, EngineConfig(target="x86-64")) as engine:
        return [
            engine.chat.completions.create(**request(question)).choices[0].message.content
            for question in QUESTIONS
        ]


def request(question: str) -> dict:
    return {
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 40,
    }


@pytest.mark.parametrize(("cpu", "target"), BOARDS)
def test_the_daemon_answers_as_on_x86(
    root: ArmRoot, bundle: Path, answers: list[str], cpu: str, target: str
):
    with started(bundle, python=root.python(cpu), **root.environment()) as daemon:
        found = [
            daemon.ask(json=request(question)).json()["choices"][0]["message"]["content"]
            for question in QUESTIONS
        ]
        assert found == answers
        assert daemon.get("health").status_code == 200
        assert daemon.metric("generated_tokens_total") > 20
        assert daemon.log.find(rf"\b{target}\b"), daemon.log.lines


@pytest.mark.parametrize(("cpu", "target"), BOARDS)
def test_kernels_compute_what_numpy_says(run_on_arm: RunOnArm, bundle: Path, cpu: str, target: str):
    script = (
        "import sys; from mlc_edge import MLCEngine\n"
        "with MLCEngine(sys.argv[1]) as engine:\n"
        "    engine.check(); print(engine.stats().target)\n"
    )
    done = run_on_arm(cpu, "-c", script, bundle)
    assert (done.returncode, done.stdout.strip()) == (0, target), done.stderr


def test_a_library_for_a_newer_cpu_is_refused(run_on_arm: RunOnArm, pi5_bundle: Path):
    done = run_on_arm("cortex-a72", "-m", "mlc_edge", "chat", pi5_bundle, "--prompt", "Hello")
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "pi5 needs" in done.stderr
    assert "asimddp" in done.stderr


def test_doctor_tells_the_architecture(run_on_arm: RunOnArm):
    done = run_on_arm("cortex-a76", "-m", "mlc_edge", "doctor", "--json")
    report = json.loads(done.stdout)
    assert report["cpu"]["arch"] == "aarch64"
    assert "asimddp" in report["cpu"]["features"]
    assert report["target"] == "pi5"


def test_the_vulkan_plugin_of_the_package_loads_there(
    root: ArmRoot, run_on_arm: RunOnArm, tmp_path: Path
):
    """There is no Vulkan driver in the emulated system: wgpu-native starts and finds no adapter."""
    packages = copy_packages(tmp_path / "packages", shipped=True)
    script = (
        "from mlc_edge.vulkan import build, device\n"
        "print(build.plugin_library().parent, build.plugin_origin(), device.adapters())"
    )
    found = os.pathsep.join((str(packages), str(root.folder / "site")))
    done = run_on_arm("cortex-a76", "-c", script, PYTHONPATH=found)
    folder = packages / "mlc_edge/vulkan/shipped"
    assert (done.returncode, done.stdout.strip()) == (0, f"{folder} shipped ()"), done.stderr
