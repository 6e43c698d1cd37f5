"""How much memory this machine, or this process's control group, can still give."""

from pathlib import Path

KIB = 1024
MEMINFO = "proc/meminfo"
CGROUP = "sys/fs/cgroup"


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can be used without swapping; `root` is where proc and sys are found."""
    return min(_system(root), _control_group(root))


def total_bytes(root: Path = Path("/")) -> int:
    """Memory that the machine has, or that the control group may use if that is less."""
    limit = _number(root / CGROUP / "memory.max")
    total = _meminfo(root).get("MemTotal", 0)
    return min(total, limit) if limit is not None else total


def _system(root: Path) -> int:
    return _meminfo(root).get("MemAvailable", 0)


def _meminfo(root: Path) -> dict[str, int]:
    path = root / MEMINFO
    if not path.exists():
        return {}
    fields = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(value.split()[0]) * KIB for name, _, value in fields if value.strip()}


def _control_group(root: Path) -> int:
    limit = _number(root / CGROUP / "memory.max")
    used = _number(root / CGROUP / "memory.current")
    if limit is None or used is None:
        return 1 << 62
    return max(0, limit - used)


def _number(path: Path) -> int | None:
    """The file's number; None where there is no file, or no limit ("max")."""
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text.isdigit() else None
