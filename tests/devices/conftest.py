"""The embedded model for this machine, and bundles that differ from it a little."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_edge.bundle import LOCK_NAME, lock_files, read_lock, verify, write_lock
from tests.build.conftest import ROOT, run_build
from tests.devices.installing import kit_command, script
from tests.devices.updating import Answers, layout, linked, update

Variant = Callable[[str], Path]
ASK = """
import sys
from mlc_edge import MLCEngine
with MLCEngine(sys.argv[1]) as engine:
    messages = [{"role": "user", "content": "What is 17 + 25?"}]
    answer = engine.chat.completions.create(messages=messages, temperature=0, max_tokens=32)
    print(answer.choices[0].message.content)
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles") / "pocket"
    result = run_build(ROOT / "models/pocket", "--target", "native", "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="session")
def variant(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Variant:
    """Makes a whole bundle of another id and content; shared, so only to be read."""
    folder = tmp_path_factory.mktemp("variants")

    def make(model: str) -> Path:
        output = folder / model
        if not output.exists():
            shutil.copytree(bundle, output)
            (output / "generation_config.json").write_text(json.dumps({"temperature": len(model)}))
            relock(output, model)
        return output

    return make


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an owner copies to a device, all but the model."""
    output = tmp_path_factory.mktemp("pc") / "a kit"
    done = script(*kit_command(output))
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def answers() -> Answers:
    """What a whole bundle answers; one that is byte for byte the same is asked once."""
    known: dict[bytes, str] = {}

    def ask(bundle: Path) -> str:
        verify(bundle)
        lock = (bundle / LOCK_NAME).read_bytes()
        if lock not in known:
            command = [sys.executable, "-c", ASK, str(bundle)]
            known[lock] = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=120
            ).stdout
        return known[lock]

    return ask


@pytest.fixture(scope="session")
def second_in_use(variant: Variant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("device") / "models"
    for name in ("first", "second"):
        done = update(variant(name), "--dir", models)
        assert done.returncode == 0, done.stderr
    assert layout(models) == linked("2-second", "1-first")
    return models


@pytest.fixture
def models(second_in_use: Path, tmp_path: Path) -> Path:
    """A device with two models, the second in use."""
    return shutil.copytree(second_in_use, tmp_path / "models", symlinks=True)


def relock(bundle: Path, model: str) -> None:
    """Write the lock anew for what the folder holds now."""
    lock = read_lock(bundle)
    write_lock(bundle, replace(lock, model=replace(lock.model, id=model), files=lock_files(bundle)))
