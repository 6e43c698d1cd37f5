"""Bundles of random checkpoints, and pages that have them loaded."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, browser, build_bundle, engine_page, site, site_url
from tests.engine.checkpoints import write_checkpoint

__all__ = ["browser", "site", "site_url"]

SIZES = ("--context-window-size", "128", "--prefill-chunk-size", "32")


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="package")
def bundles(checkpoint: Path, site: Path) -> Path:
    """Folder with tiny-q0f32, served under `bundles/`; context 128, chunks of 32."""
    options = ("--target", "webgpu-software-f32", "--quant", "q0f32")
    build_bundle(checkpoint, site / "bundles/tiny-q0f32", *options, *SIZES)
    return site / "bundles"


@pytest.fixture(scope="package")
def drawing_bundle(site: Path, checkpoint: Path) -> None:
    """tiny-drawing, with a library whose kernels draw; context 128, chunks of 32."""
    options = ("--target", "webgpu-f32", "--quant", "q4f32_1", *SIZES)
    build_bundle(checkpoint, site / "bundles/tiny-drawing", *options)


@pytest.fixture(scope="package")
def tiny(browser: Browser, site_url: str, bundles: Path) -> Iterator[EnginePage]:
    """A page that has loaded tiny-q0f32; tests leave it loaded."""
    with engine_page(browser, site_url) as page:
        page.load("tiny-q0f32")
        yield page


@pytest.fixture
def fresh(browser: Browser, site_url: str, bundles: Path) -> Iterator[EnginePage]:
    """A page that has nothing loaded."""
    with engine_page(browser, site_url) as page:
        yield page


@pytest.fixture
def damaged(bundles: Path) -> Iterator[Path]:
    """A copy of tiny-q0f32 to damage, served as `damaged`."""
    folder = bundles / "damaged"
    shutil.copytree(bundles / "tiny-q0f32", folder)
    yield folder
    shutil.rmtree(folder)
