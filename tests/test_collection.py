"""A plain `pytest` finds every test file: a folder that it leaves out fails here, not in silence."""

import os
import subprocess
import sys
from pathlib import Path

from tests.engine_parts.test_parts import PARTS

ROOT = Path(__file__).parent.parent


def on_disk(pattern: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob(pattern)}


def test_every_python_test_file_is_collected():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    result = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    collected = {line.split("::")[0] for line in result.stdout.splitlines() if "::" in line}
    assert collected == on_disk("test_*.py")


def test_every_typescript_test_file_is_run():
    assert on_disk("*.test.ts") == {
        path.relative_to(ROOT).as_posix() for path in PARTS.glob("*.test.ts")
    }
