"""A real browser, the real service worker and host, and a page that only fetches."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from starlette.types import ASGIApp

from tests.web.fakes import random_bytes, sha256, write_app, write_bundle
from tests.web.serving import Site, serving
from web.browser import chromium
from web.host import HostConfig, create_app

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "web/worker/service-worker"
BUNDLE = "bundles/fake-q4f32_1/"
SHARD = random_bytes(300_000, seed=1)
SHARD_URL = f"{BUNDLE}params_shard_0.bin?sha256={sha256(SHARD)}"
PAGE_SCRIPT = """
globalThis.app = app;
globalThis.events = [];
app.onServiceWorkerEvent((event) => events.push(event));
globalThis.load = async (url, options = {}) => {
  try {
    const response = await fetch(url, { ...options, signal: AbortSignal.timeout(60_000) });
    const bytes = await response.arrayBuffer();
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return {
      status: response.status,
      sha256: [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    };
  } catch {
    return { status: 0, sha256: null };
  }
};
"""
# With all the patience that a busy machine needs.
REGISTER = "app.registerServiceWorker(undefined, 60_000)"
LAZY = b"// of every version"
# As the engine's, as far as it starts.
WORKER_SCRIPT = "onmessage = ({ data }) => postMessage(data);"


def esbuild(entry: str, *options: str) -> bytes:
    tool = ROOT / "node_modules/.bin/esbuild"
    arguments = [tool, SOURCES / entry, "--bundle", "--target=es2022", *options]
    return subprocess.run(arguments, capture_output=True, check=True, cwd=ROOT).stdout


@pytest.fixture(scope="session")
def scripts() -> dict[str, bytes]:
    client = esbuild("client.ts", "--format=iife", "--global-name=app")
    return {
        "service-worker.js": esbuild("main.ts", "--format=esm"),
        "dist/page-AAAAAAAA.js": client + PAGE_SCRIPT.encode(),
    }


def page_files(scripts: dict[str, bytes], title: str = "first") -> dict[str, bytes]:
    """A version of the app: its title, and scripts whose content, or name too, goes with it."""
    html = (
        f"<!doctype html><title>{title}</title><link rel='icon' href='data:,'>"
        "<script src='dist/page-AAAAAAAA.js'></script>"
    )
    return {
        **scripts,
        "index.html": html.encode(),
        "dist/worker-CCCCCCCC.js": WORKER_SCRIPT.encode(),
        f"dist/{title}-BBBBBBBB.js": f"// {title}".encode(),
        "dist/mlc-edge.js": f"// {title}".encode(),
        "dist/lazy-DDDDDDDD.js": LAZY,
        f"dist/lazy-{title}.js": f"// lazy {title}".encode(),
    }


class World:
    """One site with one bundle, and the folders that it is served from."""

    def __init__(self, root: Path, scripts: dict[str, bytes]) -> None:
        self.scripts = scripts
        self.static = write_app(root / "static", page_files(scripts))
        self.bundle = write_bundle(root / "bundle", {"params_shard_0.bin": SHARD})
        self.site: Site

    def app(self) -> ASGIApp:
        return create_app(HostConfig(bundles=(self.bundle,), static=self.static))

    def publish(self, title: str) -> None:
        """Puts a new version of the app on the server."""
        for script in self.static.glob("dist/*-BBBBBBBB.js"):
            script.unlink()
        write_app(self.static, page_files(self.scripts, title))


@pytest.fixture
def world(tmp_path: Path, scripts: dict[str, bytes]) -> Iterator[World]:
    world = World(tmp_path, scripts)
    with serving(world.app()) as site:
        world.site = site
        yield world


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium(software=True, webgpu=False) as browser:
        yield browser


class Tab:
    """A page under the service worker's control."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.goto(url)
        status = page.evaluate(REGISTER)
        assert status == {"state": "controlled", "reason": None}

    def another(self, url: str) -> "Tab":
        """A second tab of the same browser."""
        return Tab(self.page.context.new_page(), url)

    def load(self, path: str) -> dict[str, object]:
        """Fetches a file to its end: status, sha256 of what came."""
        return self.page.evaluate("url => load(url)", path)

    def wait_for_event(self, kind: str) -> dict[str, object]:
        """The first event of this kind since the page was loaded."""
        handle = self.page.wait_for_function(
            "kind => events.find((event) => event.kind === kind)", arg=kind
        )
        return handle.json_value()


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[[str], Tab]]:
    with ExitStack() as stack:

        def open_tab(url: str) -> Tab:
            context = browser.new_context()
            stack.callback(context.close)
            return Tab(context.new_page(), url)

        yield open_tab


@pytest.fixture
def tab(world: World, open_tab: Callable[[str], Tab]) -> Tab:
    return open_tab(world.site.url)
