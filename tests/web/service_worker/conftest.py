"""A real browser, the real service worker and host, and a page that only fetches."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from starlette.types import ASGIApp

from tests.web.fakes import random_bytes, sha256, write_app, write_bundle
from tests.web.serving import Seen, Site, serving
from web.browser import chromium
from web.host import HostConfig, create_app

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "web/worker/service-worker"
PART_BYTES = 128 << 10
# Small ones are delivered after verification, big ones while they arrive.
SMALL = random_bytes(5 * PART_BYTES + 1000, seed=1)
BIG = random_bytes((9 << 20) + 500, seed=2)
BUNDLE = "bundles/fake-q4f32_1/"
OTHER = "bundles/other-q4f32_1/"
PAGE_SCRIPT = """
globalThis.storage = storage;
globalThis.events = [];
storage.onServiceWorkerEvent((event) => events.push(event));
globalThis.load = async (url, { signal, ...options } = {}) => {
  try {
    const signals = [AbortSignal.timeout(30_000), signal].filter(Boolean);
    const response = await fetch(url, { ...options, signal: AbortSignal.any(signals) });
    const bytes = await response.arrayBuffer();
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return {
      status: response.status,
      sha256: [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
      verified: response.headers.get("x-mlc-edge-verified"),
      error: response.headers.get("x-mlc-edge-error"),
    };
  } catch (error) {
    return { status: 0, sha256: null, verified: null, error: error.name };
  }
};
"""


# An engine's worker, as far as downloads go.
WORKER_SCRIPT = """
onmessage = async ({ data }) => {
  const response = await fetch(new URL(data, new URL("..", location.href)));
  const { byteLength } = await response.arrayBuffer();
  postMessage([byteLength, response.headers.get("x-mlc-edge-verified")]);
};
"""


def esbuild(entry: str, *options: str) -> bytes:
    tool = ROOT / "node_modules/.bin/esbuild"
    arguments = [tool, SOURCES / entry, "--bundle", "--target=es2022", *options]
    return subprocess.run(arguments, capture_output=True, check=True, cwd=ROOT).stdout


@pytest.fixture(scope="session")
def scripts() -> dict[str, bytes]:
    client = esbuild("client.ts", "--format=iife", "--global-name=storage")
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
    }


class World:
    """One site with one bundle, and the folders that it is served from."""

    def __init__(self, root: Path, scripts: dict[str, bytes]) -> None:
        self.scripts = scripts
        self.static = write_app(root / "static", page_files(scripts))
        files = {"params_shard_0.bin": SMALL, "params_shard_1.bin": BIG}
        self.bundle = write_bundle(root / "bundle", files)
        other = {"params_shard_0.bin": SMALL, "params_shard_1.bin": b"another"}
        self.other_bundle = write_bundle(root / "other", other, name="other-q4f32_1")
        self.site: Site

    def app(self) -> ASGIApp:
        bundles = (self.bundle, self.other_bundle)
        return create_app(HostConfig(bundles=bundles, static=self.static))

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
        status = page.evaluate("storage.registerServiceWorker()")
        assert status == {"state": "controlled", "reason": None}

    def another(self, url: str) -> "Tab":
        """A second tab of the same browser."""
        return Tab(self.page.context.new_page(), url)

    def load(self, path: str) -> dict[str, object]:
        """Fetches a file to its end: status, sha256 of what came, verified header, error."""
        return self.page.evaluate("url => load(url)", path)

    def start_loading(self, path: str) -> None:
        """Begins a fetch that `stop_loading` ends."""
        self.page.evaluate(
            """url => {
              globalThis.stopping = new AbortController();
              globalThis.stopped = load(url, { signal: stopping.signal });
            }""",
            path,
        )

    def stop_loading(self) -> dict[str, object]:
        return self.page.evaluate("() => { stopping.abort(); return stopped; }")

    def wait_for_event(self, kind: str) -> dict[str, object]:
        """The first event of this kind since the page was loaded."""
        handle = self.page.wait_for_function(
            "kind => events.find((event) => event.kind === kind)", arg=kind
        )
        return handle.json_value()

    def wait_for_parts(self, content: bytes, count: int) -> None:
        """Returns when so many parts of the file with this content are stored."""
        self.page.evaluate(
            """async ([hash, count]) => {
              const cache = await caches.open("mlc-edge-content-v1");
              const isPart = (key) => key.url.includes(`${hash}/`);
              while ((await cache.keys()).filter(isPart).length < count)
                await new Promise(requestAnimationFrame);
            }""",
            [sha256(content), count],
        )

    def stop_service_worker(self) -> None:
        """Ends the service worker at once, as the browser may at any time."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("ServiceWorker.enable")
        session.send("ServiceWorker.stopAllWorkers")
        session.detach()

    def hasten_service_worker(self) -> None:
        """Makes its timers a hundred times as fast; `delays` tells what they were set to."""
        self.page.context.service_workers[0].evaluate(
            """() => {
              const { setTimeout } = globalThis;
              globalThis.delays = [];
              globalThis.setTimeout = (callback, ms) => {
                delays.push(ms);
                return setTimeout(callback, ms / 100);
              };
              AbortSignal.timeout = (ms) => {
                const controller = new AbortController();
                globalThis.setTimeout(() => controller.abort(), ms);
                return controller.signal;
              };
            }"""
        )

    def stored_parts(self, content: bytes) -> int:
        return self.page.evaluate(
            """async hash => {
              const cache = await caches.open("mlc-edge-content-v1");
              return (await cache.keys()).filter((key) => key.url.includes(`${hash}/`)).length;
            }""",
            sha256(content),
        )


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


def address(path: str, content: bytes) -> str:
    """The content-addressed URL of a bundle's file, relative to the page."""
    return f"{BUNDLE}{path}?sha256={sha256(content)}"


SMALL_URL = address("params_shard_0.bin", SMALL)
BIG_URL = address("params_shard_1.bin", BIG)
SMALL_PATH = f"/{SMALL_URL.split('?')[0]}"
BIG_PATH = f"/{BIG_URL.split('?')[0]}"
BOTH = pytest.mark.parametrize(
    ("url", "path", "content"), [(SMALL_URL, SMALL_PATH, SMALL), (BIG_URL, BIG_PATH, BIG)]
)


def verified(content: bytes) -> dict[str, object]:
    """What `Tab.load` gives for a file that came whole and checked."""
    return {"status": 200, "sha256": sha256(content), "verified": "sha256", "error": None}


def stall(world: World, tab: Tab, parts: int, *, url: str = SMALL_URL) -> threading.Event:
    """Starts the small file's download; returns when `parts` whole parts of it are stored."""
    release = threading.Event()
    world.site.network.stalls[SMALL_PATH] = (parts * PART_BYTES + 1, release)
    tab.start_loading(url)
    tab.wait_for_parts(SMALL, parts)
    return release


def interrupt(world: World, tab: Tab, parts: int, *, url: str = SMALL_URL) -> None:
    """Ends the small file's download with so many parts stored, as closing the browser does."""
    release = stall(world, tab, parts, url=url)
    assert tab.stop_loading()["error"] == "AbortError"
    tab.stop_service_worker()
    release.set()


def range_start(seen: Seen) -> int:
    assert seen.range
    return int(seen.range.removeprefix("bytes=").removesuffix("-"))
