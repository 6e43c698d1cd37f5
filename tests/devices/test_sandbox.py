"""The daemon needs no memory that is writable and executable: its unit forbids that."""

import subprocess
import sys
from pathlib import Path

from tests.build.conftest import ROOT
from tests.daemon.daemons import SHORT, started

PYTHON = (sys.executable, "-m", "tests.devices.sandboxed")
# From this kernel on the sandbox is known.
SANDBOX_KERNEL = (6, 3)
WRITE_CODE = (
    "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
)


def test_a_bundle_is_served_in_the_units_sandbox(bundle: Path) -> None:
    with started(bundle, python=PYTHON) as daemon:
        answer = daemon.ask(json=SHORT)
        assert answer.status_code == 200, answer.text
        assert daemon.get("metrics").status_code == 200


def test_the_sandbox_is_one() -> None:
    kernel = tuple(
        int(part) for part in Path("/proc/sys/kernel/osrelease").read_text().split(".")[:2]
    )
    done = subprocess.run(
        [*PYTHON, "-c", WRITE_CODE], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    if kernel >= SANDBOX_KERNEL:
        assert "PermissionError" in done.stderr
