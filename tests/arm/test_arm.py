"""Raspberry Pis: the daemon answers as on x86-64, each CPU takes its library, none gets a wrong one."""

import json
import os
from pathlib import Path

import pytest

from mlc_edge import EngineConfig, MLCEngine
from tests.arm.conftest import RunOnArm
from tests.arm.root import ArmRoot
from tests.build.conftest import run_build
from tests.conftest import POCKET
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


@pytest.fixture(scope="session")
def shipping(root: ArmRoot, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of one who installed this project's packages with Vulkan's plugins."""
    packages = tmp_path_factory.mktemp("shipping") / "packages"
    copy_packages(packages, shipped=True)
    return {"PYTHONPATH": os.pathsep.join((str(packages), str(root.folder / "site")))}


def test_the_packages_vulkan_plugin_finds_adapters(run_on_arm: RunOnArm, shipping: dict[str, str]):
    script = (
        "from mlc_edge.vulkan import build, device\n"
        "print(build.plugin_origin(), *(adapter.kind for adapter in device.adapters()))"
    )
    done = run_on_arm("cortex-a76", "-c", script, **shipping)
    assert (done.returncode, done.stdout.strip()) == (0, "shipped software"), done.stderr


def test_a_model_answers_by_vulkan(run_on_arm: RunOnArm, shipping: dict[str, str], tmp_path: Path):
    bundle = tmp_path / "pocket-q4f16_1"
    options = ("--target", "vulkan-aarch64-software-f32", "--quant", "q4f16_1", "--no-measure")
    built = run_build(POCKET, *options, "-o", bundle)
    assert built.returncode == 0, built.stderr
    asked = ("chat", bundle, "--device", "vulkan", "--prompt", "What is 17 + 25?")
    done = run_on_arm("cortex-a76", "-m", "mlc_edge", *asked, **shipping)
    assert (done.returncode, done.stdout) == (0, "17 + 25 = 42.\n"), done.stderr
