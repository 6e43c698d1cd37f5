"""What "auto" takes: the fastest device, measured once."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.bundle import read_lock
from mlc_edge.devices import DeviceChoice
from mlc_edge.fastest import choose_device, fastest, is_worthwhile
from mlc_edge.vulkan.device import find_adapter

BOTH = (DeviceChoice("cpu"), DeviceChoice("vulkan"))
ABSENT = DeviceChoice("vulkan", 99)


class Steps(list[str]):
    def __call__(self, step: str, share: float | None) -> None:
        self.append(step)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is remembered; the plugin isn't compiled again."""
    find_adapter(0)
    monkeypatch.setattr("mlc_edge.fastest.speeds_folder", lambda: tmp_path)


def record(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def speeds_in(folder: Path) -> dict[str, Any]:
    speeds: dict[str, Any] = json.loads(record(folder).read_text())["speeds"]
    return speeds


@pytest.mark.usefixtures("device")
def test_devices_are_measured_once(bundle: Path, tmp_path: Path):
    steps = Steps()
    taken = fastest(bundle, BOTH, "this", steps)
    speeds = speeds_in(tmp_path)
    assert set(speeds) == {"cpu", "vulkan:0"}
    assert all(speed["prefill"] > speed["decode"] > 0 for speed in speeds.values())
    slower, faster = sorted(speeds, key=lambda name: speeds[name]["decode"])
    assert str(taken) == faster and len(steps) == 2

    swapped = {slower: speeds[faster], faster: speeds[slower]}
    record(tmp_path).write_text(json.dumps({"at": 0, "speeds": swapped}))
    assert str(fastest(bundle, BOTH, "this", steps)) == slower and len(steps) == 2


def test_a_device_that_fails_is_not_taken_and_tried_again_some_day(bundle: Path, tmp_path: Path):
    steps, devices = Steps(), (ABSENT, BOTH[0])
    for _ in range(2):
        assert fastest(bundle, devices, "this", steps) == BOTH[0] and len(steps) == 2
    speeds = speeds_in(tmp_path)
    assert speeds[str(ABSENT)] is None and speeds["cpu"]["decode"] > 0
    yesterday = {"at": time.time() - 90_000, "speeds": speeds}
    record(tmp_path).write_text(json.dumps(yesterday))
    assert fastest(bundle, devices, "this", steps) == BOTH[0] and len(steps) == 4


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        '{"at": 0, "speeds": {"cpu": {"prefill": 0, "decode": 1}}}',
        '{"cpu": 3}',
        "9" * 5000,
    ],
)
def test_a_damaged_record_is_as_good_as_none(bundle: Path, tmp_path: Path, damage: str):
    steps = Steps()
    fastest(bundle, BOTH[:1], "this", steps)
    record(tmp_path).write_text(damage)
    assert fastest(bundle, BOTH[:1], "this", steps) == BOTH[0] and len(steps) == 2
    assert set(speeds_in(tmp_path)) == {"cpu"}


def measuring(bundle: Path, stdin: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mlc_edge.fastest", str(bundle), "cpu"]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE)


def test_measuring_ends_with_who_asked_for_it(bundle: Path):
    reader, writer = os.pipe()
    os.close(writer)
    with measuring(bundle, reader) as child:
        os.close(reader)
        assert child.wait(60) == 1


def test_who_is_stopped_remembers_nothing(bundle: Path, tmp_path: Path):
    steps = Steps()
    with ThreadPoolExecutor() as pool:
        taken = pool.submit(fastest, bundle, BOTH[:1], "this", steps)
        child = wait_for_child()
        os.kill(child, signal.SIGTERM)
        assert taken.result() == BOTH[0] and not list(tmp_path.iterdir())


def wait_for_child() -> int:
    """The process that measures for this one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for children in Path("/proc/self/task").glob("*/children"):
            for child in children.read_text().split():
                if b"mlc_edge.fastest" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
    raise AssertionError("nothing is measured")


def test_the_key_is_the_same_in_every_process(bundle: Path, tmp_path: Path):
    program = f"""
import mlc_edge.fastest as it
from dataclasses import replace
from pathlib import Path
adapter = replace(it.probe_adapters()[0], kind="integrated")
it.probe_adapters, it.is_worthwhile = lambda: [adapter], lambda lock, adapter: True
it.speeds_folder = lambda: Path({str(tmp_path)!r})
auto = it.DeviceChoice("auto")
print(it.choose_device(Path({str(bundle)!r}), auto, None, lambda step, share: print(step)))
"""
    told = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told.append(done.stdout.splitlines())
    assert len(told[0]) == 3 and told[1] == told[0][-1:]


def test_another_machine_is_measured_anew(bundle: Path, tmp_path: Path):
    for machine in ("this", "that"):
        fastest(bundle, BOTH[:1], machine, Steps())
    assert len(list(tmp_path.iterdir())) == 2


def test_drivers_that_compute_on_the_cpu_are_not_tried(bundle: Path, tmp_path: Path):
    lock, adapter = read_lock(bundle), find_adapter(0)
    assert adapter.is_software
    auto = DeviceChoice("auto")
    assert choose_device(bundle, auto, None, Steps()) == auto and not list(tmp_path.iterdir())
    assert not is_worthwhile(lock, adapter)


def test_gpus_that_the_library_runs_on_are_tried(bundle: Path):
    lock, adapter = read_lock(bundle), replace(find_adapter(0), kind="integrated")
    needs = {name: replace(t.needs, adapter={}) for name, t in lock.targets.items()}
    targets = {name: replace(t, needs=needs[name]) for name, t in lock.targets.items()}
    for_hardware = replace(lock, targets=targets)
    assert is_worthwhile(for_hardware, adapter)
    assert not is_worthwhile(lock, adapter), "its kernels are for adapters that a CPU stands in for"
    assert not is_worthwhile(for_hardware, replace(adapter, name="V3D 7.1.7"))
    assert not is_worthwhile(for_hardware, replace(adapter, features=(), limits={}))
