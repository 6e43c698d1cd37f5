"""The installer's scripts, and what an owner copies to a device."""

import os
import subprocess
import sys
from pathlib import Path

from tests.build.conftest import ROOT
from tests.daemon.daemons import environment

INSTALL = ROOT / "edge/install"
# Debian's, as on a device: this test's own may lie in a home that services don't see.
DEVICE_PYTHON = "/usr/bin/python3"
# The installed program has to find its own packages, not those of this checkout.
ELSEWHERE = Path("/")


def kit_command(output: Path) -> list[object]:
    """Collects what an owner copies to a device; here, to one like this machine."""
    shown = subprocess.run([DEVICE_PYTHON, "--version"], check=True, capture_output=True, text=True)
    version = ".".join(shown.stdout.split()[1].split(".")[:2])
    options = ["--python", version, "--arch", os.uname().machine, "--vulkan"]
    return [INSTALL / "collect-wheels.sh", *options, output]


def script(program: object, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run one of them on this machine."""
    inherited = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ELSEWHERE,
        env={
            **inherited,
            "PYTHON": DEVICE_PYTHON,
            "PC_PYTHON": sys.executable,
            # Compiling what is never called would take most of the time.
            "PIP_NO_COMPILE": "1",
        },
        timeout=600,
    )
