"""Processes with a device of their own."""

import os
import subprocess
import sys

from tests.daemon.daemons import ROOT


def python(script: str, *arguments: object, **extra: str) -> "subprocess.CompletedProcess[str]":
    """Run a script; `extra` is added to the environment."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **extra},
        timeout=300,
    )
