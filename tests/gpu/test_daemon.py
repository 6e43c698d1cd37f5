"""The daemon with `--device vulkan`: it answers as on the CPU, and says what is missing."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_edge.bundle import LOCK_NAME
from tests.build.conftest import run_build
from tests.conftest import POCKET
from tests.daemon.daemons import ROOT, TIMEOUT_S, Daemon, environment, run, started
from tests.gpu.models import target_name

QUESTIONS = ("What is 17 + 25?", "What is the capital of France?", "Say hello.")
# lavapipe's index where there are GPUs, too, is not known: what counts is that no other way is left.
NO_DRIVER = {"VK_ICD_FILENAMES": "/dev/null", "VK_DRIVER_FILES": "/dev/null"}


@pytest.fixture(scope="module")
def daemon(bundle: Path) -> Iterator[Daemon]:
    with started(bundle, "--device", "vulkan") as daemon:
        yield daemon


def answers(daemon: Daemon) -> list[str]:
    bodies = [
        {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24}
        for text in QUESTIONS
    ]
    replies = [daemon.ask(json=body).json() for body in bodies]
    return [reply["choices"][0]["message"]["content"] for reply in replies]


def test_it_answers_as_the_cpu_does(bundle: Path, daemon: Daemon):
    assert daemon.log.find(rf"ready: .*{target_name('software-f16')}\)")
    with started(bundle) as other:
        assert other.log.find(r"ready: .*, native\)")
        assert answers(daemon) == answers(other)


def test_several_answers_are_computed_together(daemon: Daemon):
    body = {"messages": [{"role": "user", "content": QUESTIONS[0]}], "temperature": 0}
    choices = daemon.ask(json={**body, "n": 3, "max_tokens": 24}).json()["choices"]
    (text,) = {choice["message"]["content"] for choice in choices}
    assert "42" in text


def test_it_ends_in_order_in_the_middle_of_an_answer(bundle: Path):
    with started(bundle, "--device", "vulkan:0", "--drain-timeout", 0) as daemon:
        body = {"prompt": "Hello", "max_tokens": 400, "ignore_eos": True, "stream": True}
        with daemon.client() as client, client.stream("POST", "v1/completions", json=body) as reply:
            next(reply.iter_lines())
            daemon.process.terminate()
            assert daemon.end() == 0
    assert not daemon.log.find("terminate called|core dumped")


def test_a_program_may_end_in_the_middle_of_an_answer(bundle: Path):
    script = """
import sys
from mlc_edge import EngineConfig, MLCEngine
engine = MLCEngine(sys.argv[1], EngineConfig(device="vulkan"))
answer = engine.completions.create(prompt="Hello", max_tokens=400, ignore_eos=True, stream=True)
next(iter(answer))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "extra", "problem"),
    [
        (("--device", "vulkan:99"), {}, r"there is no Vulkan adapter 99: use one of vulkan:0 \("),
        (("--device", "vulkan"), NO_DRIVER, "there is no Vulkan adapter: install the GPU's driver"),
        (("--device", "gpu"), {}, "'gpu', expected auto, cpu, vulkan, cuda, or vulkan:1"),
        (("--device", "vulkan:-1"), {}, "expected auto, cpu, vulkan, cuda, or vulkan:1"),
        (
            ("--device", "vulkan", "--target", "native"),
            {},
            "target native is not for the device vulkan",
        ),
        (
            ("--device", "cpu", "--target", target_name("software-f16")),
            {},
            "is not for the device cpu",
        ),
    ],
)
def test_what_can_not_be_had_is_said(
    bundle: Path, options: tuple[str, ...], extra: dict[str, str], problem: str
):
    done = run(bundle, "--port", 0, *options, **extra)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert re.search(problem, done.stderr), done.stderr


def test_a_bundle_without_a_library_for_it_is_told(pocket_bundle: Path):
    done = run(pocket_bundle, "--port", 0, "--device", "vulkan")
    assert done.returncode == 2
    assert "it has libraries for other devices only" in done.stderr
    assert "--target vulkan-" in done.stderr


def test_auto_takes_it_where_a_bundle_has_nothing_else(tmp_path: Path):
    only = tmp_path / "pocket-q4f16_1"
    result = run_build(
        *(POCKET, "--target", target_name("software-f32"), "--quant", "q4f16_1", "--no-measure"),
        *("-o", only),
    )
    assert result.returncode == 0, result.stderr
    with started(only) as daemon:
        assert daemon.log.find(rf"ready: .*{target_name('software-f32')}\)")
    # A group of targets, as the build takes it.
    with started(only, "--device", "vulkan", "--target", target_name("software")) as daemon:
        assert daemon.log.find(rf"ready: .*{target_name('software-f32')}\)")
    done = run(only, "--port", 0, "--target", target_name("f16"))
    assert done.returncode == 2 and f"no library for '{target_name('f16')}'" in done.stderr


def test_a_library_for_browsers_is_refused_by_name(tmp_path: Path, pocket_bundle: Path):
    copied = shutil.copytree(pocket_bundle, tmp_path / pocket_bundle.name)
    lock = json.loads((copied / LOCK_NAME).read_text())
    name = next(iter(lock["targets"]))
    lock["targets"][name]["device"] = "webgpu"
    (copied / LOCK_NAME).write_text(json.dumps(lock))
    done = run(copied, "--port", 0, "--target", name)
    assert done.returncode == 2
    assert f"target {name} is for the device webgpu" in done.stderr
