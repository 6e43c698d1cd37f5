"""Processes with a device of their own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.daemon.daemons import ROOT


def python(
    script: str, *arguments: object, packages: Path = ROOT, **extra: str
) -> "subprocess.CompletedProcess[str]":
    """Run a script with what `packages` holds; `extra` is added to the environment."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=packages,
        env={**os.environ, "PYTHONPATH": str(packages), **extra},
        timeout=300,
    )
