"""What "auto" takes: the fastest device, measured once."""

import json
from dataclasses import replace
from pathlib import Path

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


@pytest.mark.usefixtures("device")
def test_devices_are_measured_once(bundle: Path, tmp_path: Path):
    steps = Steps()
    taken = fastest(bundle, BOTH, "this", steps)
    speeds = json.loads(record(tmp_path).read_text())
    assert set(speeds) == {"cpu", "vulkan:0"}
    assert all(speed["prefill"] > speed["decode"] > 0 for speed in speeds.values())
    slower, faster = sorted(speeds, key=lambda name: speeds[name]["decode"])
    assert str(taken) == faster and len(steps) == 2

    swapped = {slower: speeds[faster], faster: speeds[slower]}
    record(tmp_path).write_text(json.dumps(swapped))
    assert str(fastest(bundle, BOTH, "this", steps)) == slower and len(steps) == 2


def test_a_device_that_fails_is_not_taken(bundle: Path, tmp_path: Path):
    assert fastest(bundle, (ABSENT, BOTH[0]), "this", Steps()) == BOTH[0]
    assert set(json.loads(record(tmp_path).read_text())) == {"cpu"}


@pytest.mark.parametrize("damage", ["", "[]", '{"cpu": {"prefill": 0, "decode": 1}}', '{"cpu": 3}'])
def test_a_damaged_record_is_as_good_as_none(bundle: Path, tmp_path: Path, damage: str):
    steps = Steps()
    fastest(bundle, BOTH[:1], "this", steps)
    record(tmp_path).write_text(damage)
    assert fastest(bundle, BOTH[:1], "this", steps) == BOTH[0] and len(steps) == 2
    assert set(json.loads(record(tmp_path).read_text())) == {"cpu"}


def test_another_machine_is_measured_anew(bundle: Path, tmp_path: Path):
    for machine in ("this", "that"):
        fastest(bundle, BOTH[:1], machine, Steps())
    assert len(list(tmp_path.iterdir())) == 2


def test_drivers_that_compute_on_the_cpu_are_not_tried(bundle: Path, tmp_path: Path):
    lock, adapter = read_lock(bundle), find_adapter(0)
    assert adapter.is_software
    assert choose_device(bundle, Steps()).kind == "auto" and not list(tmp_path.iterdir())
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
