"""An emulated device, and one bundle for it and for this machine."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_edge.bundle import read_lock, write_lock
from tests.arm.root import PROJECT, ArmRoot, arm_root
from tests.build.conftest import run_build

TARGETS = ("pi4", "pi5", "x86-64")
RunOnArm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def root() -> ArmRoot:
    return arm_root()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("arm") / "pocket-q4f16_1"
    targets = [word for target in TARGETS for word in ("--target", target)]
    result = run_build(PROJECT / "models/pocket", *targets, "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="session")
def pi5_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle for a Raspberry Pi 5 alone."""
    output = tmp_path_factory.mktemp("pi5") / "pocket-q4f16_1"
    shutil.copytree(bundle, output)
    lock = read_lock(output)
    write_lock(output, replace(lock, targets={"pi5": lock.targets["pi5"]}))
    return output


@pytest.fixture(scope="session")
def run_on_arm(root: ArmRoot) -> RunOnArm:
    """Runs `python` with arguments on an emulated CPU; `extra` is added to the environment."""

    def run(cpu: str, *arguments: object, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*root.python(cpu), *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **root.environment(), **extra},
            cwd=root.folder if "PYTHONPATH" in extra else PROJECT,
            timeout=600,
        )

    return run
