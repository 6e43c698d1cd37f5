"""Drivers that compute wrongly, have no memory left or lose their device, by a layer above the real one."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_edge.vulkan.build import plugin_library
from mlc_edge.vulkan.device import find_adapter
from tests.build.conftest import run_build
from tests.conftest import POCKET
from tests.daemon.daemons import Daemon, run, started
from tests.gpu.faults.driver import FaultyDriver, compile_layer
from tests.gpu.models import target_name
from tests.gpu.processes import python

ANSWER = {"prompt": "Hello", "max_tokens": 800, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layer")
    compile_layer(folder)
    return folder


@pytest.fixture
def driver(layer: Path, tmp_path: Path) -> FaultyDriver:
    """One that has no fault yet."""
    driver = FaultyDriver(layer, tmp_path / "faults")
    driver.fails()
    return driver


@pytest.fixture(scope="module")
def for_hardware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model for this CPU and for GPUs of hardware."""
    output = tmp_path_factory.mktemp("hardware") / "pocket-q4f16_1"
    targets = ("--target", "native", "--target", target_name("f16"))
    result = run_build(POCKET, *targets, "--quant", "q4f16_1", "--no-measure", "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.mark.parametrize(
    "fault", [{"skip": 7}, {"zero": 1}, {"half": 1}, {"overflow": 1}], ids=lambda f: next(iter(f))
)
def test_a_driver_that_computes_wrongly_is_refused(
    bundle: Path, driver: FaultyDriver, fault: dict[str, int]
):
    driver.fails(**fault)
    done = run(bundle, "--port", 0, "--device", "vulkan", **driver.environment)
    assert done.returncode == 2, done.stderr
    assert "This device computes wrong results: " in done.stderr


@pytest.mark.parametrize("is_faulty", [False, True])
def test_auto_takes_the_cpu_in_its_place(
    for_hardware: Path, driver: FaultyDriver, tmp_path: Path, *, is_faulty: bool
):
    driver.fails(discrete=1, skip=7 if is_faulty else 0)
    speeds = speeds_by_auto(for_hardware, driver, tmp_path / "cache")
    assert set(speeds) == {"cpu", "vulkan:0"} and speeds["cpu"]
    assert (speeds["vulkan:0"] is None) == is_faulty


def speeds_by_auto(bundle: Path, driver: FaultyDriver, cache: Path) -> dict[str, Any]:
    """What a chat measures that nobody told which device to take; it answers."""
    plugin = plugin_library()
    (cache / "vulkan").mkdir(parents=True, mode=0o700)
    shutil.copy(plugin, cache / "vulkan" / plugin.name)
    script = (
        f"import sys; sys.argv[1:] = ['chat', {str(bundle)!r}, '--prompt', 'What is 17 + 25?']\n"
    )
    script += "from mlc_edge.cli import main; main()"
    done = python(script, MLC_EDGE_CACHE=str(cache), **driver.environment)
    assert (done.returncode, done.stdout) == (0, "17 + 25 = 42.\n"), done.stderr
    (record,) = (cache / "speeds").iterdir()
    speeds: dict[str, Any] = json.loads(record.read_text())["speeds"]
    return speeds


TARGETS = "from mlc_edge.devices import own_targets; print(own_targets())"


@pytest.mark.parametrize(
    ("faults", "targets"),
    [({}, "native"), ({"discrete": 1}, f"native,{target_name('f16').removesuffix('-f16')}")],
    ids=["software", "discrete"],
)
def test_checkpoints_are_compiled_for_a_gpu_that_is_worth_it(
    driver: FaultyDriver, faults: dict[str, int], targets: str
):
    find_adapter(0)
    driver.fails(**faults)
    done = python(TARGETS, **driver.environment)
    assert (done.returncode, done.stdout.strip()) == (0, targets), done.stderr


LOAD = """
import sys
from mlc_edge import EngineConfig, MLCEngine
from mlc_edge.errors import EngineError

def load(**sizes):
    with MLCEngine(sys.argv[1], EngineConfig(device="vulkan", **sizes)) as engine:
        reply = engine.completions.create(prompt="Hello", max_tokens=2, ignore_eos=True)
        print(reply.usage.completion_tokens)

try:
    load(max_total_tokens=60_000)
except EngineError as error:
    print(error.code, " ".join(str(error).split()))
load()
"""


def test_a_model_without_room_is_refused_and_a_smaller_one_has_it(
    bundle: Path, driver: FaultyDriver
):
    driver.fails(memory=100_000_000)
    done = python(LOAD, bundle, **driver.environment)
    assert done.returncode == 0, done.stderr
    refused, answered = done.stdout.splitlines()
    assert refused.startswith("out_of_memory vulkan:0 (")
    assert "making a buffer of" in refused and "Not enough memory left" in refused
    assert "Use --device cpu, a smaller model" in refused and answered == "2"


@contextmanager
def answering(
    bundle: Path, driver: FaultyDriver
) -> Iterator[tuple[Daemon, httpx.Client, Iterator[str]]]:
    """A daemon that has begun an answer, and the lines that come of it."""
    with (
        started(bundle, "--device", "vulkan", **driver.environment) as daemon,
        daemon.client() as client,
        client.stream("POST", "v1/completions", json=ANSWER) as reply,
    ):
        lines = reply.iter_lines()
        assert '"text"' in next(lines)
        yield daemon, client, lines


def test_memory_that_runs_out_in_an_answer_ends_the_daemon(bundle: Path, driver: FaultyDriver):
    with answering(bundle, driver) as (daemon, client, lines):
        driver.fails(buffers=1)
        # A steady answer makes no buffers: several together do.
        asked = {"prompt": "Hello", "max_tokens": 4, "n": 3, "ignore_eos": True}
        refused = client.post("v1/completions", json=asked)
        assert refused.status_code in (500, 503) and "error" in refused.json()
        assert '"error"' in "".join(lines)
        # wgpu-native may tell of the loss when it is next asked for something, not before.
        with suppress(httpx.HTTPError):
            client.post("v1/completions", json=asked)
        assert daemon.end() == 2
        assert daemon.log.wait_for("The engine has ended: the Vulkan device is lost")


@pytest.mark.parametrize("fault", ["lose", "hang"])
def test_a_device_that_is_lost_in_an_answer_ends_the_daemon(
    bundle: Path, driver: FaultyDriver, fault: str
):
    with answering(bundle, driver) as (daemon, _, lines):
        driver.fails(**{fault: 1})
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
        assert daemon.end() == -signal.SIGABRT
        assert daemon.log.find("Parent device is lost")
