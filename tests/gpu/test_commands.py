"""`mlc-edge chat` and `mlc-edge bench` with `--device`, which `mlc-edge run` has, too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_edge.vulkan.device import find_adapter
from tests.daemon.daemons import ROOT, TIMEOUT_S
from tests.gpu.models import target_name

SIZES = ("--prompt-tokens", 8, "--max-tokens", 2, "--repeats", 1, "--concurrency", 1, "--json")


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlc_edge", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
    )


def test_a_chat_computes_on_the_device_that_is_named(bundle: Path):
    question = ("--prompt", "What is the capital of France?")
    done = command("chat", bundle, "--device", "vulkan:0", *question)
    assert (done.returncode, done.stdout) == (0, "The capital of France is Paris.\n"), done.stderr
    done = command("chat", bundle, "--device", "vulkan:99", *question)
    assert done.returncode == 2 and "there is no Vulkan adapter 99" in done.stderr


@pytest.mark.parametrize(
    ("device", "target"), [("vulkan", target_name("software-f16")), ("cpu", "native")]
)
def test_a_benchmark_says_what_computed(bundle: Path, device: str, target: str):
    done = command("bench", bundle, "--device", device, *SIZES)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["device"]
    adapter = find_adapter(0).name if device == "vulkan" else None
    assert (told["target"], told["adapter"]) == (target, adapter)


@pytest.mark.parametrize("name", ["chat", "bench"])
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--device", "gpu"), "device is 'gpu': use auto, cpu, vulkan, cuda, or vulkan:1"),
        (("--device", "vulkan", "--target", "native"), "not for the device vulkan"),
    ],
)
def test_wrong_devices_are_refused(bundle: Path, name: str, options: tuple[str, ...], problem: str):
    done = command(name, bundle, *options)
    assert done.returncode == 2
    assert problem in done.stderr


def test_browsers_choose_their_device(bundle: Path):
    done = command("bench", bundle, "--target", "webgpu", "--device", "cpu")
    assert done.returncode == 2 and "leave --device out" in done.stderr
