"""A plain `pytest` finds every test file: a folder that it leaves out fails here, not in silence.

But for those with the marker `real`, which `make test-real` runs: nothing is left out by both.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine_parts.test_parts import PARTS

ROOT = Path(__file__).parent.parent


def on_disk(pattern: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob(pattern)}


def planned(*options: str) -> list[str]:
    """What `pytest` would set up, run and tear down, a line each."""
    command = [sys.executable, "-m", "pytest", "--setup-plan", "-q", "-p", "no:cacheprovider"]
    command += options
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    result = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    return [line.strip() for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def plan() -> list[str]:
    """Of a plain `pytest`."""
    return planned()


def files(plan: list[str]) -> set[str]:
    return {line.split("::")[0] for line in plan if line.startswith("tests/")}


def test_every_python_test_file_is_collected(plan: list[str]):
    assert files(plan) | files(planned("-m", "real")) == on_disk("test_*.py")


def test_a_plain_run_leaves_out_what_make_test_real_runs_alone(plan: list[str]):
    assert {path.rpartition("/")[0] for path in on_disk("test_*.py") - files(plan)} <= {
        "tests/real"
    }
    assert "pytest -m real " in (ROOT / "Makefile").read_text()


def test_one_browser_is_open_at_a_time(plan: list[str]):
    """Playwright's event loop runs for as long as one is open, and allows no other beside it."""
    opened = 0
    for line in plan:
        match re.split(r"\s+|\[", line)[:3]:
            case ["SETUP", _, "browser"]:
                opened += 1
            case ["TEARDOWN", _, "browser"]:
                opened -= 1
        assert opened <= 1, line
    assert opened == 0


def test_every_typescript_test_file_is_run():
    assert on_disk("*.test.ts") == {
        path.relative_to(ROOT).as_posix() for path in PARTS.glob("*.test.ts")
    }
