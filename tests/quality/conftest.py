"""A small checkpoint that tests only read."""

from pathlib import Path

import pytest

from tests.build.checkpoints import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, tables of 1024 tokens."""
    return write_checkpoint(tmp_path_factory.mktemp("quality") / "tiny")
