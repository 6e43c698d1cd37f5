"""SmolLM2-135M-Instruct from its GGUF file, and what is built of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.real_model import real_model
from tests.browser import browser, build_bundle, site, site_url
from tests.daemon.daemons import Daemon, started

__all__ = ["browser", "site", "site_url"]

ROOT = Path(__file__).parents[2]
# Where `make test-real` installs llama.cpp.
PEER = ROOT / "build/llama-venv/bin/python"


@pytest.fixture(scope="package")
def gguf() -> Path:
    """Q4_1, token embedding Q8_0; downloaded the first time."""
    return real_model()


@pytest.fixture(scope="package")
def bundle(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For this CPU, with the file's weights as they are."""
    return build_bundle(gguf, tmp_path_factory.mktemp("real") / "smollm2", "--target", "native")


@pytest.fixture(scope="package")
def exact_bundle(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same values in float32."""
    output = tmp_path_factory.mktemp("exact") / "smollm2-q0f32"
    return build_bundle(gguf, output, "--target", "native", "--quant", "q0f32")


@pytest.fixture(scope="package")
def web_bundle(gguf: Path, site: Path) -> Path:
    """For browsers, on the site."""
    return build_bundle(gguf, site / "bundles/smollm2", "--target", "webgpu")


@pytest.fixture(scope="package")
def daemon(bundle: Path) -> Iterator[Daemon]:
    with started(bundle) as daemon:
        yield daemon


@pytest.fixture(scope="package")
def peer() -> Path:
    """The interpreter that has llama-cpp-python."""
    assert PEER.exists(), f"{PEER} is missing: run `make test-real`, which builds it"
    return PEER
