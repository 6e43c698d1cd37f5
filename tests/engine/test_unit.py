"""The engine's parts that need no device, under Node, against the golden vectors."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.golden import make

ROOT = Path(__file__).parent.parent.parent
UNIT = Path(__file__).parent / "unit"


@pytest.mark.parametrize("name", make.MAKERS)
def test_golden_vectors_are_current(name: str) -> None:
    assert (make.FOLDER / name).read_text() == make.render(name), (
        "run `python -m tests.golden.make`"
    )


@pytest.mark.parametrize("name", sorted(path.name for path in UNIT.glob("*.test.ts")))
def test_parts(name: str, tmp_path: Path) -> None:
    bundle = tmp_path / name.replace(".ts", ".mjs")
    esbuild = ["node_modules/.bin/esbuild", str(UNIT / name), "--bundle", "--format=esm"]
    command = [*esbuild, "--platform=node", "--log-level=warning", f"--outfile={bundle}"]
    subprocess.run(command, check=True, cwd=ROOT)
    done = subprocess.run(
        ["node", "--test", str(bundle)],
        env={**os.environ, "GOLDEN": str(make.FOLDER)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
