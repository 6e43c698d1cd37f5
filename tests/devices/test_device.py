"""What boards are, read from folders that look like their /proc and /sys."""

import os
from pathlib import Path

import pytest

from edge.hardware.device import probe, profile, temperature_c, throttling
from edge.raspberrypi import board
from mlc_edge.cpu import host_cpu
from tests.devices.roots import (
    ORIN,
    PC,
    PI4,
    PI4_THROTTLED,
    PI5,
    PI5_THROTTLED,
    THOR,
    Files,
    memory,
    write_root,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("files", "kind", "board", "gpu", "celsius", "slowed"),
    [
        (
            PI4,
            "raspberrypi",
            "Raspberry Pi 4 Model B Rev 1.4",
            "VideoCore (V3D)",
            61.342,
            ("under-voltage", "frequency capped"),
        ),
        (PI5, "raspberrypi", "Raspberry Pi 5 Model B Rev 1.0", "VideoCore (V3D)", 48.25, ()),
        (
            ORIN,
            "jetson",
            "NVIDIA Jetson Orin Nano Developer Kit",
            "NVIDIA Tegra (integrated)",
            57.5,
            ("cpufreq-cpu0",),
        ),
        (
            THOR,
            "jetson",
            "NVIDIA Jetson AGX Thor Developer Kit",
            "NVIDIA Tegra (integrated)",
            41.0,
            ("over-current",),
        ),
        (PC, "generic", "LENOVO ThinkCentre M75q", None, 72.0, ("Processor",)),
        ({}, "generic", "unknown board", None, None, ()),
    ],
    ids=["pi4", "pi5", "orin", "thor", "pc", "empty"],
)
def test_board(
    tmp_path: Path,
    files: Files,
    kind: str,
    board: str,
    gpu: str | None,
    celsius: float | None,
    slowed: tuple[str, ...],
) -> None:
    device = probe(write_root(tmp_path, files))
    assert (device.kind, device.board, device.gpu) == (kind, board, gpu)
    assert (device.temperature_c, device.throttled) == (celsius, slowed)
    assert device.cpu == host_cpu()
    assert device.cores >= 1
    assert device.disk_free_bytes > 0


def test_gpu_and_vulkan_drivers_of_a_pc(tmp_path: Path) -> None:
    root = write_root(tmp_path, PC)
    driver = root / "sys/bus/pci/drivers/amdgpu"
    for node in ("renderD128", "card0"):
        folder = root / f"sys/class/drm/{node}/device"
        folder.mkdir(parents=True)
        (folder / "driver").symlink_to(os.path.relpath(driver, folder))
    device = probe(root)
    assert device.gpu == "amdgpu"
    assert device.vulkan == ("lvp", "nvidia", "radeon")


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        ("0", ()),
        ("1", ("under-voltage",)),
        ("4", ("throttled",)),
        ("80008", ("soft temperature limit",)),
        ("0xe0006", ("frequency capped", "throttled")),
        ("unreadable", ()),
    ],
)
@pytest.mark.parametrize(
    ("files", "name"), [(PI4, PI4_THROTTLED), (PI5, PI5_THROTTLED)], ids=["pi4", "pi5"]
)
def test_throttling_of_a_raspberry_pi(
    tmp_path: Path, files: Files, name: str, bits: str, reasons: tuple[str, ...]
) -> None:
    root = write_root(tmp_path, {**files, name: f"{bits}\n"})
    assert throttling(root) == reasons


def test_what_a_kernel_lacks_is_no_error(tmp_path: Path) -> None:
    bare = {name: text for name, text in PI5.items() if "device-tree" in name}
    device = probe(write_root(tmp_path, bare))
    assert device.kind == "raspberrypi"
    assert (device.temperature_c, device.throttled) == (None, ())
    assert (device.memory_total_bytes, device.memory_available_bytes) == (0, 0)


def test_this_machine() -> None:
    device = probe()
    assert 0 < device.memory_available_bytes <= device.memory_total_bytes
    assert (device.temperature_c is None) == (temperature_c() is None)
    assert all(isinstance(reason, str) for reason in throttling())


def test_probing_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    assert probe().disk_free_bytes > 0


def test_memory_is_that_of_the_machine(tmp_path: Path) -> None:
    device = probe(write_root(tmp_path, memory(8, 5)))
    assert device.memory_total_bytes == 8 * GIB
    assert device.memory_available_bytes == 5 * GIB


@pytest.mark.parametrize("group", ["", "system.slice/", "system.slice/mlc-edge.service/"])
def test_memory_is_that_of_the_closest_limit(tmp_path: Path, group: str) -> None:
    """A limit of 2 GiB of which 1.5 are used, half of a GiB by files that could be dropped."""
    limited = {
        **memory(8, 5),
        "proc/self/cgroup": "0::/system.slice/mlc-edge.service\n",
        "sys/fs/cgroup/system.slice/mlc-edge.service/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/mlc-edge.service/memory.current": "4096\n",
        f"sys/fs/cgroup/{group}memory.max": f"{2 * GIB}\n",
        f"sys/fs/cgroup/{group}memory.current": f"{3 * GIB // 2}\n",
        f"sys/fs/cgroup/{group}memory.stat": f"anon 4096\ninactive_file {GIB // 2}\n",
    }
    device = probe(write_root(tmp_path, limited))
    assert device.memory_total_bytes == 2 * GIB
    assert device.memory_available_bytes == GIB


@pytest.mark.parametrize("files", [PI4, PI5], ids=["pi4", "pi5"])
def test_a_raspberry_pi_writes_with_two_threads(tmp_path: Path, files: Files) -> None:
    device = probe(write_root(tmp_path, files))
    threads = profile(device)
    assert threads.prefill_threads == device.cores
    assert threads.decode_threads == min(2, device.cores)
    assert 0 < threads.memory_reserve_bytes < device.memory_total_bytes // 2


@pytest.mark.parametrize("files", [ORIN, THOR], ids=["orin", "thor"])
def test_a_jetson_leaves_a_core_to_others(tmp_path: Path, files: Files) -> None:
    device = probe(write_root(tmp_path, files))
    threads = profile(device)
    assert threads.prefill_threads == threads.decode_threads == max(1, device.cores - 1)
    assert threads.cores_free == device.cores - threads.prefill_threads


def test_a_pc_takes_all_cores(tmp_path: Path) -> None:
    device = probe(write_root(tmp_path, PC))
    threads = profile(device)
    assert threads.prefill_threads == threads.decode_threads == device.cores
    assert threads.cores_free == 0


def test_the_firmware_tool_is_asked_where_the_kernel_has_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "vcgencmd"
    tool.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert board.throttling() == ("under-voltage", "throttled")
