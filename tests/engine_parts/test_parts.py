"""The TypeScript engine's parts that need no device, under Node, against the golden vectors.

No import here or above loads PyTorch: a part's tests take a second.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = Path(__file__).parent
GOLDEN = ROOT / "tests/golden"


@pytest.mark.parametrize("name", sorted(path.name for path in PARTS.glob("*.test.ts")))
def test_parts(name: str, tmp_path: Path) -> None:
    bundle = tmp_path / name.replace(".ts", ".mjs")
    esbuild = ["node_modules/.bin/esbuild", str(PARTS / name), "--bundle", "--format=esm"]
    command = [*esbuild, "--platform=node", "--log-level=warning", f"--outfile={bundle}"]
    subprocess.run(command, check=True, cwd=ROOT)
    done = subprocess.run(
        ["node", "--test", str(bundle)],
        env={**os.environ, "GOLDEN": str(GOLDEN)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
