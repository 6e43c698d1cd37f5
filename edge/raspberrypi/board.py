"""A Raspberry Pi: how it is recognised, how many threads suit it, what slows it down."""

import shutil
import subprocess
from pathlib import Path

from edge.hardware.profile import Profile
from edge.hardware.sysfs import ROOT, number

NAME = "raspberrypi"
GPU = "VideoCore (V3D)"
# Linux names the folder of the system on chip `soc` up to the Pi 4, by its address since the Pi 5.
FIRMWARE = "sys/devices/platform/soc*/soc*:firmware/get_throttled"
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
THROTTLING_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
VCGENCMD_TIMEOUT_S = 2
MEMORY_RESERVE_BYTES = 300 << 20


def matches(compatible: str) -> bool:
    """Whether the device tree's list of compatible machines has a Raspberry Pi."""
    return "raspberrypi," in compatible


def profile(cores: int) -> Profile:
    """Prefill is bound by arithmetic and takes all cores; decode by memory, which two saturate."""
    return Profile(
        prefill_threads=cores,
        decode_threads=min(2, cores),
        memory_reserve_bytes=MEMORY_RESERVE_BYTES,
        cores_free=0,
    )


def throttling(root: Path = ROOT) -> tuple[str, ...]:
    """What holds the board back at this moment, by the firmware's account."""
    bits = next((number(file, base=16) for file in root.glob(FIRMWARE)), None)
    if bits is None and root == ROOT:
        bits = _ask_firmware()
    return tuple(text for bit, text in THROTTLING_BITS.items() if (bits or 0) >> bit & 1)


def _ask_firmware() -> int | None:
    """The same number from the tool of Raspberry Pi OS, for kernels without the file."""
    if not shutil.which("vcgencmd"):
        return None
    try:
        done = subprocess.run(
            ["vcgencmd", "get_throttled"],
            capture_output=True,
            text=True,
            timeout=VCGENCMD_TIMEOUT_S,
            check=True,
        )
        return int(done.stdout.strip().partition("=")[2], 16)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
