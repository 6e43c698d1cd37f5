"""Models that are compiled once for this machine: tests of all rooms only read them."""

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.build.checkpoints import write_checkpoint
from tests.build.conftest import run_build

POCKET = Path(__file__).parents[1] / "models/pocket"


class FolderScheduling(LoadScopeScheduling):
    """Processes share the work by folders, since the tests of one share its bundles and its browser."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0].split("/")[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FolderScheduling:
    return FolderScheduling(config, log)


@pytest.fixture(scope="session")
def pocket_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """q4f16_1 with a `native` library; prefill in chunks of 64, so that short prompts take several."""
    output = tmp_path_factory.mktemp("pocket") / "pocket-q4f16_1"
    options = ("--target", "native", "--quant", "q4f16_1", "--prefill-chunk-size", 64)
    result = run_build(POCKET, *options, "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in float32 with a `native` library; other targets can take its weights over."""
    folder = tmp_path_factory.mktemp("tiny")
    output = folder / "tiny-q0f32"
    options = ("--target", "native", "--quant", "q0f32")
    result = run_build(write_checkpoint(folder / "tiny"), *options, "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="session")
def web_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as browsers run it: q4f32_1 with a `webgpu` library."""
    output = tmp_path_factory.mktemp("web") / "pocket-q4f32_1"
    result = run_build(POCKET, "--target", "webgpu", "--quant", "q4f32_1", "-o", output)
    assert result.returncode == 0, result.stderr
    return output
