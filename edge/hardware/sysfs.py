"""Small files of the kernel, any of which a device may lack."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
# As drivers name them: others cool with fans, or keep a setting of their own in this place.
SLOWED = re.compile(r"cpu|processor|gpu|devfreq|powerclamp", re.IGNORECASE)


def read(path: Path) -> str | None:
    """The file's text without blanks and NULs at its ends; None if it can't be read."""
    try:
        return path.read_text(errors="replace").strip(" \n\t\0")
    except OSError:
        return None


def number(path: Path, base: int = 10) -> int | None:
    """The file's whole number; None if there is none."""
    text = read(path)
    try:
        return int(text or "", base)
    except ValueError:
        return None


def temperature_c(root: Path = ROOT) -> float | None:
    """The hottest thermal zone's temperature in degrees Celsius."""
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    # Zones of parts that are switched off read 0 or below.
    degrees = [value / 1000 for zone in zones if (value := number(zone)) is not None and value > 0]
    return max(degrees, default=None)


def active_cooling(root: Path = ROOT) -> Iterator[str]:
    """Names of cooling devices that slow a processor down at the moment."""
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = read(folder / "type") or ""
        if SLOWED.search(kind) and (number(folder / "cur_state") or 0) > 0:
            yield kind
