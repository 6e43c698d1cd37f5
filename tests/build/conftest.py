"""A small checkpoint, the command, and a bundle for browsers that tests only read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.build.checkpoints import write_checkpoint

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def build_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mlc_edge", "build", *map(str, arguments)]


def run_build(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(build_command(*arguments), capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared between tests: copy it before changing it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def browser_bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles") / "tiny-q4f16_1"
    result = run_build(checkpoint, "--target", "webgpu", "--quant", "q4f16_1", "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="session")
def native_bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles") / "tiny-q4f32_1"
    result = run_build(checkpoint, "--target", "native", "--quant", "q4f32_1", "-o", output)
    assert result.returncode == 0, result.stderr
    return output
