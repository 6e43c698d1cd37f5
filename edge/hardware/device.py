"""What this device is: board, CPU, memory, GPU, temperature."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.hardware import sysfs
from edge.hardware.profile import Profile
from edge.hardware.sysfs import ROOT
from edge.jetson import board as jetson
from edge.raspberrypi import board as raspberrypi
from mlc_edge.cpu import Cpu, host_cpu, physical_cores
from mlc_edge.memory import available_bytes, total_bytes

Kind = Literal["raspberrypi", "jetson", "generic"]
GENERIC_RESERVE_BYTES = 512 << 20
# https://github.com/KhronosGroup/Vulkan-Loader/blob/main/docs/LoaderDriverInterface.md
VULKAN_DRIVERS = ("etc/vulkan/icd.d", "usr/share/vulkan/icd.d", "usr/local/share/vulkan/icd.d")


@dataclass(frozen=True)
class Device:
    """Sizes in bytes; `gpu` is None where there is none, `throttled` names what slows it down.

    `vulkan` names the drivers that are installed, whether they find a GPU or not.
    """

    board: str
    kind: Kind
    cpu: Cpu
    cores: int
    memory_total_bytes: int
    memory_available_bytes: int
    gpu: str | None
    temperature_c: float | None
    throttled: tuple[str, ...]
    disk_free_bytes: int
    vulkan: tuple[str, ...] = ()


def probe(root: Path = ROOT) -> Device:
    """Read what the kernel says; `root` is where proc and sys are found."""
    kind = find_kind(root)
    return Device(
        board=_board(root),
        kind=kind,
        cpu=host_cpu(),
        cores=len(physical_cores()),
        memory_total_bytes=total_bytes(root),
        memory_available_bytes=available_bytes(root),
        gpu=_gpu(root, kind),
        temperature_c=temperature_c(root),
        throttled=throttling(root),
        disk_free_bytes=_disk_free(Path.home() if root == ROOT else root),
        vulkan=_vulkan(root),
    )


def find_kind(root: Path = ROOT) -> Kind:
    """Which family of boards this is, by its device tree."""
    compatible = sysfs.read(root / "proc/device-tree/compatible") or ""
    if raspberrypi.matches(compatible):
        return "raspberrypi"
    return "jetson" if jetson.matches(compatible) else "generic"


def temperature_c(root: Path = ROOT) -> float | None:
    """The hottest part's temperature in degrees Celsius; None where nothing measures it."""
    return sysfs.temperature_c(root)


def throttling(root: Path = ROOT) -> tuple[str, ...]:
    """What slows the device down at this moment."""
    readers: dict[Kind, Callable[[Path], tuple[str, ...]]] = {
        "raspberrypi": raspberrypi.throttling,
        "jetson": jetson.throttling,
    }
    reader = readers.get(find_kind(root))
    return reader(root) if reader else tuple(sysfs.active_cooling(root))


def profile(device: Device) -> Profile:
    """How much of `device` the engine takes, unless it is told otherwise."""
    if device.kind == "raspberrypi":
        return raspberrypi.profile(device.cores)
    if device.kind == "jetson":
        return jetson.profile(device.cores)
    return Profile(device.cores, device.cores, GENERIC_RESERVE_BYTES, cores_free=0)


def memory_for_models(device: Device) -> int:
    """Bytes of what is free that the engine may take; the rest is left to others."""
    available = device.memory_available_bytes
    return available - min(profile(device).memory_reserve_bytes, available // 2)


def memory_max(device: Device) -> int:
    """Bytes that the daemon may take at most, its program and the files that it reads included."""
    total = device.memory_total_bytes
    return total - min(profile(device).memory_reserve_bytes, total // 2)


def _board(root: Path) -> str:
    """The device tree's name of the machine, or what a PC's firmware says."""
    model = sysfs.read(root / "proc/device-tree/model")
    if model:
        return model
    firmware = root / "sys/class/dmi/id"
    parts = [sysfs.read(firmware / name) for name in ("sys_vendor", "product_name")]
    return " ".join(part for part in parts if part) or "unknown board"


def _gpu(root: Path, kind: Kind) -> str | None:
    if kind == "jetson":
        return jetson.GPU
    if kind == "raspberrypi":
        return raspberrypi.GPU
    drivers = sorted(
        (node / "device/driver").resolve().name
        for node in (root / "sys/class/drm").glob("renderD*")
        if (node / "device/driver").exists()
    )
    return ", ".join(dict.fromkeys(drivers)) or None


def _vulkan(root: Path) -> tuple[str, ...]:
    """Drivers by the names of their manifests, without the architecture that some end in."""
    files = [file for folder in VULKAN_DRIVERS for file in (root / folder).glob("*.json")]
    return tuple(sorted({file.name.partition(".")[0].removesuffix("_icd") for file in files}))


def _disk_free(folder: Path) -> int:
    """Free bytes where `folder` is or would be: users of services may have no home, or not see it."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return shutil.disk_usage(there).free
