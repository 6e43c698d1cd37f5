"""The embedded model for this machine, and bundles that differ from it a little."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_edge.bundle import lock_files, read_lock, write_lock
from tests.build.conftest import ROOT, run_build

Variant = Callable[[str], Path]


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


def relock(bundle: Path, model: str) -> None:
    """Write the lock anew for what the folder holds now."""
    lock = read_lock(bundle)
    write_lock(bundle, replace(lock, model=replace(lock.model, id=model), files=lock_files(bundle)))
