"""A site of a page and a bundle without a model, written by the command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.fakes import write_app, write_bundle

ROOT = Path(__file__).parents[3]
SHARD_BYTES = 3 << 20
APP = {
    "index.html": b"<!doctype html><title>chat</title>",
    "service-worker.js": b"// service worker",
    "dist/chat-ABCDEFGH.js": b"// " + b"chat " * 30_000,
    "dist/diagram-ABCDEFGH.html": b"<!doctype html>",
    "dist/math-KaTeX_Main-ABCDEFGH.woff2": b"font",
    "dist/mlc-edge.js": b"export {};",
    "dist/chat-ABCDEFGH.css": b"body { margin: 0 }",
    "manifest.webmanifest": b"{}",
}


def run_site(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlc_edge", "site", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a page, and a bundle with one shard that is large enough for ranges."""
    root = tmp_path_factory.mktemp("sources")
    shard = os.urandom(SHARD_BYTES)
    bundle = write_bundle(
        root / "bundle", {"params_shard_0.bin": shard, "params_shard_1.bin": b"x"}
    )
    app = write_app(root / "app", APP)
    (app / "page.html").write_text("template")
    return app, bundle


@pytest.fixture
def site(sources: tuple[Path, Path], tmp_path: Path) -> Path:
    app, bundle = sources
    done = run_site(tmp_path / "site", bundle, "--static", app)
    assert done.returncode == 0, done.stderr
    return tmp_path / "site"
