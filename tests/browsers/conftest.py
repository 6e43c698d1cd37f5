"""Real browsers, one after the other, and hosts with the real page for them to open.

Each host has a port of its own, so an origin of its own: nothing is stored for it yet.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.staticfiles import StaticFiles

from tests.browser import WORKER, bundle_script
from tests.browsers.browser import DESKTOP, RealBrowser
from tests.browsers.chromium import headless_chromium
from tests.browsers.firefox import firefox
from tests.browsers.forward import Forward
from tests.browsers.webkit import webkit
from tests.daemon.daemons import Daemon, started
from tests.web.fakes import write_bundle
from tests.web.serving import Site, serving
from web.host import HostConfig, create_app

ENGINE_PAGE = """<!doctype html><title>engine</title><link rel="icon" href="data:,">
<script type="module">
import * as library from "./client.js";
Object.assign(globalThis, library);
/** What a call throws, as data. */
globalThis.failure = async (call) => {
  try {
    return { value: (await call()) ?? null };
  } catch ({ name, code, message, remedy }) {
    return { name, code, message, remedy };
  }
};
</script>"""
START = {"chromium": headless_chromium, "firefox": firefox, "webkit": webkit}


# WebKitGTK at times hangs for good on a busy machine, whatever page it shows.
BROWSERS = [
    pytest.param(name, marks=[pytest.mark.flaky(reruns=1)] if name == "webkit" else [])
    for name in START
]


@pytest.fixture(scope="package", params=BROWSERS)
def browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealBrowser]:
    with START[request.param](tmp_path_factory.mktemp(request.param)) as browser:
        yield browser


@pytest.fixture(autouse=True)
def desktop(browser: RealBrowser) -> Iterator[None]:
    browser.resize(*DESKTOP)
    yield
    # What a page still does would be taken for the next one's.
    try:
        browser.navigate("about:blank")
    except Exception:
        # It fails one test, not all that come after.
        browser.restart()
        raise


OpenSite = Callable[..., Site]


@pytest.fixture
def open_site() -> Iterator[OpenSite]:
    """Starts the host with the built page and these bundles."""
    with ExitStack() as stack:

        def open(*bundles: Path) -> Site:
            return stack.enter_context(serving(create_app(HostConfig(bundles=bundles))))

        yield open


@pytest.fixture(scope="session")
def fake_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For browsers without WebGPU: they never get as far as its content."""
    return write_bundle(tmp_path_factory.mktemp("fake"), {"params_shard_0.bin": b"weights"})


@pytest.fixture(scope="session")
def engine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the library as a site embeds it, and the engine's worker."""
    folder = tmp_path_factory.mktemp("engine")
    bundle_script(WORKER / "client/index.ts", folder / "client.js")
    bundle_script(WORKER / "engine/worker.ts", folder / "worker.js")
    (folder / "index.html").write_text(ENGINE_PAGE)
    write_bundle(folder / "bundles/fake", {"params_shard_0.bin": b"weights"})
    return folder


@pytest.fixture
def engine_site(engine_folder: Path) -> Iterator[Site]:
    with serving(StaticFiles(directory=engine_folder, html=True)) as site:
        yield site


@pytest.fixture(scope="session")
def daemon(pocket_bundle: Path) -> Iterator[Daemon]:
    with started(pocket_bundle) as daemon:
        yield daemon


@pytest.fixture
def daemon_site(daemon: Daemon) -> Iterator[Site]:
    """`mlc-edge run` behind a network that can stall."""
    with serving(Forward(daemon.url)) as site:
        yield site
