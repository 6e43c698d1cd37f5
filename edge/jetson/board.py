"""An NVIDIA Jetson: how it is recognised, how many threads suit it, what slows it down."""

from pathlib import Path

from edge.hardware.profile import Profile
from edge.hardware.sysfs import ROOT, active_cooling, number

NAME = "jetson"
GPU = "NVIDIA Tegra (integrated)"
OVER_CURRENT = "sys/class/hwmon/hwmon*/oc*_event_cnt"
# CPU and GPU share the memory, and the desktop's GPU buffers count as well.
MEMORY_RESERVE_BYTES = 1 << 30
CORES_FREE = 1


def matches(compatible: str) -> bool:
    """Whether the device tree's list of compatible machines has a Tegra."""
    return "nvidia,tegra" in compatible


def profile(cores: int) -> Profile:
    """One core stays free for what else a robot or camera does; memory is wide enough for all others."""
    busy = max(1, cores - CORES_FREE)
    return Profile(
        prefill_threads=busy,
        decode_threads=busy,
        memory_reserve_bytes=MEMORY_RESERVE_BYTES,
        cores_free=cores - busy,
    )


def throttling(root: Path = ROOT) -> tuple[str, ...]:
    """Cooling that is at work, and over-current events since the start."""
    events = sum(number(path) or 0 for path in root.glob(OVER_CURRENT))
    return (*active_cooling(root), *(("over-current",) if events else ()))
