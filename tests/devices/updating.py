"""`mlc-edge update` in a process of its own, and what it leaves."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.build.conftest import ROOT

Answers = Callable[[Path], str]


def update_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mlc_edge", "update", "--verbose", *map(str, arguments)]


def update(*arguments: object, **options: object) -> "subprocess.CompletedProcess[str]":
    """The command to its end; `options` are subprocess.run's."""
    command = update_command(*arguments)
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, **options)


def kill_at(step: str, *arguments: object, **options: object) -> None:
    """Start an update, and kill it as soon as it says that it begins with `step`."""
    process = subprocess.Popen(
        update_command(*arguments), stdout=subprocess.PIPE, text=True, cwd=ROOT, **options
    )
    assert process.stdout is not None
    with process, process.stdout as lines:
        reached = any(line == f"{step}\n" for line in lines)
        process.kill()
    assert reached, step


def layout(models: Path) -> dict[str, str]:
    """What is in the folder: others by name, links by what they name."""
    return {
        path.name: str(path.readlink()) if path.is_symlink() else ""
        for path in models.iterdir()
        # Held while an update runs, and kept: who removes it could remove another's.
        if path.name != ".lock"
    }


def linked(current: str, previous: str) -> dict[str, str]:
    return {current: "", previous: "", "current": current, "previous": previous}
