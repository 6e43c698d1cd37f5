"""A real browser and host, and the engine's store in a worker, without a model."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import bundle_script
from tests.web.fakes import random_bytes, sha256, write_app, write_bundle
from tests.web.serving import Seen, Site, serving
from web.browser import chromium
from web.host import HostConfig, create_app

PART_BYTES = 128 << 10
BIG_PART_BYTES = 8 << 20
# Small files are stored in small parts, so that little of them is loaded twice.
SMALL = random_bytes(5 * PART_BYTES + 1000, seed=1)
BIG = random_bytes(BIG_PART_BYTES + (1 << 20) + 500, seed=2)
BUNDLE = "bundles/fake-q4f32_1/"
OTHER = "bundles/other-q4f32_1/"
HTML = (
    b"<!doctype html><title>store</title><link rel='icon' href='data:,'>"
    b"<script type='module' src='page.js'></script>"
)


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("page", "worker"):
        bundle_script(Path(__file__).parent / f"{name}.ts", folder / f"{name}.js")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class World:
    """One site with two bundles that share a file."""

    def __init__(self, root: Path, scripts: dict[str, bytes]) -> None:
        self.static = write_app(root / "static", {"index.html": HTML, **scripts})
        files = {"params_shard_0.bin": SMALL, "params_shard_1.bin": BIG}
        self.bundle = write_bundle(root / "bundle", files)
        other = {"params_shard_0.bin": SMALL, "params_shard_1.bin": b"another"}
        self.other_bundle = write_bundle(root / "other", other, name="other-q4f32_1")
        self.site: Site

    @property
    def network(self) -> Any:
        return self.site.network

    def lock(self, base: str = BUNDLE) -> dict[str, Any]:
        folder = self.bundle if base == BUNDLE else self.other_bundle
        lock: dict[str, Any] = json.loads((folder / "mlc-lock.json").read_text())
        return lock

    def ranges(self, path: str) -> list[str | None]:
        return [request.range for request in self.site.network.requests(path)]


@pytest.fixture
def world(tmp_path: Path, scripts: dict[str, bytes]) -> Iterator[World]:
    world = World(tmp_path, scripts)
    bundles = (world.bundle, world.other_bundle)
    with serving(create_app(HostConfig(bundles=bundles, static=world.static))) as site:
        world.site = site
        yield world


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium(software=True, webgpu=False) as browser:
        yield browser


class File:
    """A file of a bundle, by what a lock says of it."""

    def __init__(self, path: str, content: bytes, base: str = BUNDLE) -> None:
        self.path = f"/{base}{path}"
        self.content = content

    def wanted(self, site_url: str) -> dict[str, Any]:
        digest = sha256(self.content)
        url = f"{site_url}{self.path[1:]}?sha256={digest}"
        return {"url": url, "bytes": len(self.content), "sha256": digest}

    @property
    def whole(self) -> dict[str, Any]:
        """What `Tab.load` gives when it came whole."""
        return {"sha256": sha256(self.content), "error": None, "counted": len(self.content)}


SMALL_FILE = File("params_shard_0.bin", SMALL)
BIG_FILE = File("params_shard_1.bin", BIG)
BOTH = pytest.mark.parametrize("file", [SMALL_FILE, BIG_FILE], ids=["small", "big"])


class Tab:
    """A page whose worker has the store."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        with page.expect_worker() as worker:
            page.goto(url)
        self.worker = worker.value

    def another(self) -> "Tab":
        """A second tab of the same browser."""
        return Tab(self.page.context.new_page(), self.url)

    def reload(self) -> None:
        with self.page.expect_worker() as worker:
            self.page.reload()
        self.worker = worker.value

    def run(self, script: str, argument: Any = None) -> Any:
        """What a JavaScript function returns in the worker."""
        return self.worker.evaluate(script, argument)

    def load(
        self, file: File, *, whole: bool = False, site_url: str | None = None
    ) -> dict[str, Any]:
        wanted = file.wanted(site_url or self.url)
        loaded: dict[str, Any] = self.run(
            "([file, whole]) => load(file, { whole })", [wanted, whole]
        )
        return loaded

    def start_loading(self, file: File, site_url: str | None = None) -> None:
        self.run("(file) => startLoading(file)", file.wanted(site_url or self.url))

    def stop_loading(self) -> dict[str, Any]:
        loaded: dict[str, Any] = self.run("() => stopLoading()")
        return loaded

    def loaded(self) -> dict[str, Any]:
        """How the load that was started ends."""
        loaded: dict[str, Any] = self.run("() => loaded()")
        return loaded

    def events(self, state: str) -> list[dict[str, Any]]:
        found = self.run("(state) => events.filter((event) => event.state === state)", state)
        return list(found)

    def stored_parts(self, content: bytes) -> int:
        count: int = self.run(
            """async hash => {
              const cache = await caches.open("mlc-edge-content-v1");
              return (await cache.keys()).filter((key) => key.url.includes(`${hash}/`)).length;
            }""",
            sha256(content),
        )
        return count

    def wait_for_parts(self, content: bytes, count: int) -> None:
        """Returns when so many parts of the file with this content are stored."""
        self.page.evaluate(
            """async ([hash, count]) => {
              const cache = await caches.open("mlc-edge-content-v1");
              const isPart = (key) => key.url.includes(`${hash}/`);
              const patience = AbortSignal.timeout(60_000);
              while ((await cache.keys()).filter(isPart).length < count) {
                patience.throwIfAborted();
                await new Promise(requestAnimationFrame);
              }
            }""",
            [sha256(content), count],
        )

    def change_part(self, content: bytes, part: int, change: str) -> None:
        """`change` is JavaScript that gets the stored `bytes` and gives others, or null for none."""
        self.run(
            f"""async ([hash, part]) => {{
              const cache = await caches.open("mlc-edge-content-v1");
              const key = (await cache.keys()).find(({{ url }}) => url.endsWith(`${{hash}}/${{part}}`));
              const bytes = new Uint8Array(await (await cache.match(key)).arrayBuffer());
              const changed = ({change})(bytes);
              if (changed) await cache.put(key, new Response(changed));
              else await cache.delete(key);
            }}""",
            [sha256(content), part],
        )

    def change_manifest(self, content: bytes, **changes: Any) -> None:
        self.run(
            """async ([hash, changes]) => {
              const cache = await caches.open("mlc-edge-content-v1");
              const key = (await cache.keys()).find(({ url }) => url.endsWith(hash));
              const manifest = await (await cache.match(key)).json();
              await cache.put(key, Response.json({ ...manifest, ...changes }));
            }""",
            [sha256(content), changes],
        )

    def hasten(self, *, longest_ms: int = 5_000, times: int = 20) -> None:
        """Makes the worker's timers so many times as fast; `delays` tells what they were set to.

        Longer ones stay: a busy machine would be taken for a silent network.
        """
        self.run(
            """([longest, times]) => {
              const { setTimeout } = globalThis;
              globalThis.delays = [];
              globalThis.setTimeout = (callback, ms) => {
                delays.push(ms);
                return setTimeout(callback, ms > longest ? ms : ms / times);
              };
            }""",
            [longest_ms, times],
        )

    def limit_storage(self, free_bytes: int) -> None:
        """Leaves the site so much room above what it uses now."""
        usage = self.page.evaluate("navigator.storage.estimate()")["usage"]
        session = self.page.context.new_cdp_session(self.page)
        quota = {"origin": self.url.rstrip("/"), "quotaSize": usage + free_bytes}
        session.send("Storage.overrideQuotaForOrigin", quota)

    def promise_storage(self, free_bytes: int) -> None:
        """What a browser that tells its quota says; Chromium always says 10 GiB more than is used."""
        self.run(
            """free => {
              navigator.storage.estimate = async () => ({ usage: 1000, quota: 1000 + free });
            }""",
            free_bytes,
        )

    def open_lock(self, base: str = BUNDLE, **options: Any) -> dict[str, Any]:
        url = f"{self.url}{base}mlc-lock.json"
        opened: dict[str, Any] = self.run(
            "([url, options]) => openLock(url, options)", [url, options]
        )
        return opened

    def load_bundle(self, world: World, base: str = BUNDLE, *, leave: str | None = None) -> None:
        """Loads the lock and every file of a bundle but `leave`."""
        folder = world.bundle if base == BUNDLE else world.other_bundle
        assert "value" in self.open_lock(base)
        for entry in world.lock(base)["files"]:
            if entry["path"] != leave:
                file = File(entry["path"], (folder / entry["path"]).read_bytes(), base)
                assert self.load(file) == file.whole

    def stored(self) -> dict[str, dict[str, Any]]:
        """The stored bundles by their ids."""
        return {bundle["id"]: bundle for bundle in self.run("() => store.list()")["bundles"]}

    def leftovers(self) -> dict[str, int]:
        found: dict[str, int] = self.run("() => store.list()")["leftovers"]
        return found

    def delete(self, base: str = BUNDLE) -> dict[str, int]:
        url = f"{self.url}{base}mlc-lock.json"
        deleted: dict[str, int] = self.run("url => store.delete(url)", url)
        return deleted


OpenTab = Callable[[str], Tab]


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[OpenTab]:
    """Each in a browser profile of its own."""
    with ExitStack() as stack:

        def open_tab(url: str) -> Tab:
            context = browser.new_context()
            stack.callback(context.close)
            return Tab(context.new_page(), url)

        yield open_tab


@pytest.fixture
def tab(world: World, open_tab: OpenTab) -> Tab:
    return open_tab(world.site.url)


def stall(
    world: World, tab: Tab, parts: int, *, file: File = SMALL_FILE, part_bytes: int = PART_BYTES
) -> threading.Event:
    """Starts a download; returns when `parts` whole parts of it are stored, and no more come."""
    release = threading.Event()
    world.network.stalls[file.path] = (parts * part_bytes + 1, release)
    tab.start_loading(file)
    tab.wait_for_parts(file.content, parts)
    return release


def interrupt(world: World, tab: Tab, parts: int) -> None:
    """Ends the small file's download with so many parts stored."""
    release = stall(world, tab, parts)
    assert tab.stop_loading()["error"] == "AbortError"
    release.set()


def range_start(seen: Seen) -> int:
    assert seen.range
    return int(seen.range.removeprefix("bytes=").removesuffix("-"))
