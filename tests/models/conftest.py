"""A small checkpoint, a bundle of it, a Hub of one's own, and machines that ask it for models."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.build.checkpoints import write_checkpoint
from tests.build.conftest import run_build
from tests.models.hub import Hub, serving

ROOT = Path(__file__).parents[2]
MODEL = "acme/tiny"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared between tests: copy it before changing it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles") / "tiny-q4f16_1"
    result = run_build(checkpoint, "--target", "native", "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@dataclass(frozen=True)
class Machine:
    """A computer with caches of its own, that knows one Hub."""

    folder: Path
    hub_url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HF_ENDPOINT": self.hub_url.rstrip("/"),
            "HF_HOME": str(self.folder / "hub"),
            "MLC_EDGE_CACHE": str(self.folder / "compiled"),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def downloaded(self) -> set[str]:
        """Names of the files that have arrived whole."""
        return {path.name for path in self.folder.glob("hub/hub/models--*/snapshots/*/**/*")}

    def start(self, *words: object) -> "subprocess.Popen[str]":
        """A process that resolves a model; the words are those of tests.models.resolve."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.models.resolve", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.environment,
        )

    def resolve(self, *words: object) -> dict[str, Any]:
        """The bundle's folder and the steps on the way to it."""
        with self.start(*words) as process:
            output, errors = process.communicate()
        assert process.returncode == 0, errors
        result: dict[str, Any] = json.loads(output)
        return result

    def chat(
        self, model: object, *options: str, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """One short answer of the model."""
        command = [sys.executable, "-m", "mlc_edge", "chat", str(model), *options]
        return subprocess.run(
            [*command, "--prompt", "Hello", "--max-tokens", "2"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**self.environment, **environment},
        )


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Machine:
    return Machine(tmp_path, hub.url)
