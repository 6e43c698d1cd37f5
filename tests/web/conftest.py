from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.web.fakes import random_bytes, write_app, write_bundle
from tests.web.serving import TIMEOUT_S, Site, serving
from web.host import HostConfig, create_app

SHARD = random_bytes(300_000, seed=1)
SCRIPT = b"console.log('chat');" * 200
APP = {
    "index.html": b"<!doctype html><title>mlc-edge</title>" + b"<p>words</p>" * 200,
    "service-worker.js": b"// worker" * 200,
    "dist/chat-ABCD1234.js": SCRIPT,
    "dist/mlc-edge.js": SCRIPT,
    "dist/font-ABCD1234.woff2": SCRIPT,
    "dist/diagram-ABCD1234.html": b"<!doctype html>",
    "icon.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"), {"params_shard_0.bin": SHARD})


@pytest.fixture(scope="session")
def app_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_app(tmp_path_factory.mktemp("static"), APP)
    (folder / "page.html").write_text("template")
    (folder / "chat.css").write_text("source")
    return folder


@pytest.fixture(scope="session")
def site(bundle: Path, app_folder: Path) -> Iterator[Site]:
    with serving(create_app(HostConfig(bundles=(bundle,), static=app_folder))) as site:
        yield site


@pytest.fixture(scope="session")
def http(site: Site) -> Iterator[httpx.Client]:
    plain = {"accept-encoding": "identity"}
    with httpx.Client(base_url=site.url, headers=plain, timeout=TIMEOUT_S) as client:
        yield client
