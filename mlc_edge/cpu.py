"""What this CPU can run, and which library of a bundle suits it best.

Features have the names that Linux gives them in `/proc/cpuinfo`.
"""

import ctypes
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlc_edge.bundle import BundleLock
from mlc_edge.errors import BundleError

CPUINFO = Path("/proc/cpuinfo")
# Linux, arch/arm64/include/uapi/asm/hwcap.h; bits of getauxval(AT_HWCAP) and getauxval(AT_HWCAP2).
AT_HWCAP, AT_HWCAP2 = 16, 26
HWCAP_BITS = {
    "fp": 0,
    "asimd": 1,
    "aes": 3,
    "crc32": 7,
    "atomics": 8,
    "fphp": 9,
    "asimdhp": 10,
    "asimdrdm": 12,
    "lrcpc": 15,
    "asimddp": 20,
    "sve": 22,
    "asimdfhm": 23,
}
HWCAP2_BITS = {"sve2": 1, "svei8mm": 9, "svebf16": 12, "i8mm": 13, "bf16": 14}
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_ARMV8_2 = "asimd crc32 atomics fphp asimdhp asimdrdm lrcpc asimddp"
_X86_64_V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe"
_X86_64_V4 = f"{_X86_64_V3} avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni"
# What the libraries of each CPU target need, their architecture first.
CPU_TARGETS: dict[str, tuple[str, ...]] = {
    "pi4": ("aarch64", "asimd", "crc32"),
    "pi5": ("aarch64", *_ARMV8_2.split()),
    "jetson-orin": ("aarch64", *_ARMV8_2.split()),
    "jetson-thor": ("aarch64", *_ARMV8_2.split(), "sve2", "i8mm"),
    "aarch64": ("aarch64", "asimd"),
    "x86-64": ("x86_64", *_X86_64_V3.split()),
    "x86-64-v4": ("x86_64", *_X86_64_V4.split()),
}
# What names of Vulkan targets call the architecture of their host code.
VULKAN_TARGETS = {"x86_64": "x86-64", "aarch64": "aarch64"}


@dataclass(frozen=True)
class Cpu:
    """A CPU as libraries see it; `arch` is "x86_64", "aarch64" or what Python's platform says."""

    arch: str
    features: frozenset[str]
    model: str


def host_cpu() -> Cpu:
    """This machine's CPU, or the one that an emulator shows to this process."""
    machine = platform.machine().lower()
    arch = ARCHITECTURES.get(machine, machine)
    text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    features = _hardware_capabilities() if arch == "aarch64" else _listed(text, "flags")
    names = _values(text, "model name") or _values(text, "Model")
    return Cpu(arch, features, names[0] if names else arch)


def suits(cpu: Cpu) -> str | None:
    """The CPU target that uses most of what `cpu` offers; None if it can run none."""
    offered = cpu.features | {cpu.arch}
    fitting = [name for name, needs in CPU_TARGETS.items() if set(needs) <= offered]
    return max(fitting, key=lambda name: len(CPU_TARGETS[name]), default=None)


def choose_target(lock: BundleLock, cpu: Cpu, names: Iterable[str] | None = None) -> str:
    """Which of the targets `names`, or of all, has the library that uses most of what `cpu` offers.

    Raises BundleError that says, for each of these libraries, what the CPU lacks.
    """
    targets = {name: lock.targets[name] for name in (lock.targets if names is None else names)}
    candidates = {name: target for name, target in targets.items() if target.device == "cpu"}
    fitting = [name for name in candidates if not missing_features(lock, name, cpu)]
    if fitting:
        return max(fitting, key=lambda name: len(candidates[name].needs.features))
    reasons = [
        f"{name} needs {', '.join(missing_features(lock, name, cpu))}" for name in candidates
    ] or ["it has libraries for other devices only"]
    raise BundleError(
        f"{lock.model.id} has no library for this CPU ({cpu.model}, {cpu.arch}): "
        f"{'; '.join(reasons)}. Build the bundle with a --target for this CPU, "
        "or with --target native on this machine."
    )


def missing_features(lock: BundleLock, target: str, cpu: Cpu) -> list[str]:
    """What `target`'s library needs and `cpu` lacks, its architecture included."""
    offered = cpu.features | {cpu.arch}
    return [name for name in lock.targets[target].needs.features if name not in offered]


def _hardware_capabilities() -> frozenset[str]:
    """Features that the kernel reports to this process: right under emulation, too."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = [ctypes.c_ulong]
    words = ((getauxval(AT_HWCAP), HWCAP_BITS), (getauxval(AT_HWCAP2), HWCAP2_BITS))
    return frozenset(name for word, bits in words for name, bit in bits.items() if word >> bit & 1)


def _listed(cpuinfo: str, field: str) -> frozenset[str]:
    lists = _values(cpuinfo, field)
    return frozenset(lists[0].split()) if lists else frozenset()


def _values(cpuinfo: str, field: str) -> list[str]:
    return re.findall(rf"^{field}\s*:\s*(.*)$", cpuinfo, re.MULTILINE)


def physical_cores() -> list[int]:
    """One CPU of each core that this process may use, in order."""
    by_core: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        by_core.setdefault(_siblings(cpu), cpu)
    return list(by_core.values())


def _siblings(cpu: int) -> str:
    """A name that all threads of a core share."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text().strip() if path.exists() else str(cpu)
