"""How much memory this machine, or this process's control group, can still give."""

from collections.abc import Iterator
from pathlib import Path

KIB = 1024
MEMINFO = "proc/meminfo"
MEMBERSHIP = "proc/self/cgroup"
CGROUP = "sys/fs/cgroup"
NO_LIMIT = 1 << 62


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can be used without swapping; `root` is where proc and sys are found."""
    groups = map(_left, _control_groups(root))
    return min(_meminfo(root).get("MemAvailable", 0), *groups, NO_LIMIT)


def total_bytes(root: Path = Path("/")) -> int:
    """Memory that the machine has, or that a control group may use if that is less."""
    limits = (_number(group / "memory.max") for group in _control_groups(root))
    return min(
        _meminfo(root).get("MemTotal", 0),
        *(limit for limit in limits if limit is not None),
        NO_LIMIT,
    )


def _control_groups(root: Path) -> Iterator[Path]:
    """This process's control group and those around it, any of which may set a limit (version 2)."""
    yield root / CGROUP
    path = root / MEMBERSHIP
    lines = path.read_text().splitlines() if path.exists() else []
    # https://docs.kernel.org/admin-guide/cgroup-v2.html: one line, "0::/a/b".
    name = next((line[3:] for line in lines if line.startswith("0::/")), "/")
    group = root / CGROUP
    for part in Path(name).parts[1:]:
        group = group / part
        yield group


def _left(group: Path) -> int:
    limit = _number(group / "memory.max")
    used = _number(group / "memory.current")
    if limit is None or used is None:
        return NO_LIMIT
    # Files in memory count as used, though the kernel drops them when it needs the room.
    return max(0, limit - max(0, used - _field(group / "memory.stat", "inactive_file")))


def _meminfo(root: Path) -> dict[str, int]:
    path = root / MEMINFO
    if not path.exists():
        return {}
    fields = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(value.split()[0]) * KIB for name, _, value in fields if value.strip()}


def _field(path: Path, name: str) -> int:
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _number(path: Path) -> int | None:
    """The file's number; None where there is no file, or no limit ("max")."""
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text.isdigit() else None
