"""`createEngine`: what it refuses before anything starts, and the site's models without a network."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from tests.browser import EnginePage, engine_page
from tests.web.serving import Site, serving

INDEX = "/bundles/index.json"
SETUP = """async () => {
  const { createEngine } = await import(new URL("client.js", location.href));
  globalThis.workers = { started: 0, ended: 0 };
  globalThis.Worker = class extends Worker {
    constructor(...given) { super(...given); workers.started += 1; }
    terminate() { super.terminate(); workers.ended += 1; }
  };
  globalThis.create = (options) => createEngine({
    workerURL: "worker.js", baseURL: ".", shared: false, ...options,
  });
  globalThis.createEngine = createEngine;
}"""
FIRST = """async () => {
  const engine = await create({ signal: AbortSignal.timeout(60_000) });
  const { model } = engine;
  engine.dispose();
  return model;
}"""


@pytest.fixture(scope="module")
def host(site: Path, bundles: Path) -> Iterator[Site]:
    """Serves the site with its list of models."""
    index = bundles / "index.json"
    index.write_text(json.dumps({"bundles": [{"id": "tiny-q0f32", "url": "bundles/tiny-q0f32"}]}))
    with serving(StaticFiles(directory=site)) as host:
        yield host
    index.unlink()


@pytest.fixture(scope="module")
def page(browser: Browser, host: Site) -> Iterator[EnginePage]:
    """A page that has loaded the site's first model once."""
    with engine_page(browser, host.url) as page:
        page.run(SETUP)
        assert page.run(FIRST) == "tiny-q0f32"
        yield page


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ("null", "options"),
        ("{ modle: 'tiny-q0f32' }", "modle"),
        ("{ model: '' }", "model"),
        ("{ model: null }", "model"),
        ("{ model: 5 }", "model"),
        ("{ model: 'http://[/' }", "model"),
        ("{ baseURL: null }", "baseURL"),
        ("{ baseURL: 'data:,' }", "baseURL"),
        ("{ baseURL: '' }", "baseURL"),
        ("{ workerURL: 'http://[/' }", "workerURL"),
        ("{ workerURL: true }", "workerURL"),
        ("{ signal: new AbortController() }", "signal"),
        ("{ onProgress: {} }", "onProgress"),
        ("{ contextPolicy: 'truncate' }", "contextPolicy"),
        ("{ contextPolicy: 'toString' }", "contextPolicy"),
        ("{ deterministic: 'yes' }", "deterministic"),
        ("{ target: '' }", "target"),
        ("{ model: [] }", "model"),
        ("{ model: ['tiny-q0f32', 5] }", "model"),
        ("{ shared: 1 }", "shared"),
        ("{ memoryBudget: 0 }", "memoryBudget"),
        ("{ memoryBudget: NaN }", "memoryBudget"),
        ("{ replace: true }", "replace"),
    ],
)
def test_wrong_options_are_refused_before_a_worker_starts(
    page: EnginePage, options: str, param: str
) -> None:
    failed, started = page.run(
        f"""async () => {{
          const before = workers.started;
          const given = {options};
          const options = given && {{
            workerURL: "worker.js", baseURL: ".", shared: false, model: "tiny-q0f32", ...given,
          }};
          const engine = createEngine(options);
          engine.then((engine) => engine.dispose(), () => {{}});
          return [await failure(() => engine), workers.started - before];
        }}"""
    )
    assert failed is not None
    assert (failed["name"], failed["code"]) == ("EngineError", "invalid_request")
    assert (failed["param"], started) == (param, 0)


def test_options_that_are_undefined_are_as_if_left_out(page: EnginePage) -> None:
    script = """async () => {
      const engine = await create({ target: undefined, signal: undefined, extra: undefined });
      const { model } = engine;
      engine.dispose();
      return model;
    }"""
    assert page.run(script) == "tiny-q0f32"


def unavailable(host: Site) -> None:
    host.network.replies[INDEX] = [Response(status_code=503)]


def portal(host: Site) -> None:
    host.network.replies[INDEX] = [HTMLResponse("<p>Log in</p>")]


def hung(host: Site) -> None:
    host.network.hangs[INDEX] = threading.Event()


@pytest.mark.parametrize("fault", [unavailable, portal, hung])
def test_the_first_model_is_as_last_seen_without_a_network(
    page: EnginePage, host: Site, fault: Callable[[Site], None]
) -> None:
    fault(host)
    hang = host.network.hangs.get(INDEX)
    try:
        assert page.run(FIRST) == "tiny-q0f32"
    finally:
        if hang:
            hang.set()


@pytest.mark.parametrize("fault", [unavailable, portal])
def test_models_that_were_never_seen_are_an_error_of_the_network(
    browser: Browser, host: Site, fault: Callable[[Site], None]
) -> None:
    with engine_page(browser, host.url) as page:
        page.run(SETUP)
        fault(host)
        failed: dict[str, Any] = page.run("() => failure(() => create())")
        assert failed["code"] == "network_error" and "index.json" in failed["message"]
        assert page.run("() => workers") == {"started": 1, "ended": 1}


def test_an_abort_as_the_load_ends_disposes_of_the_engine(page: EnginePage) -> None:
    aborted, left = page.run(
        """async () => {
          const running = () => workers.started - workers.ended;
          const before = running();
          const controller = new AbortController();
          const onProgress = ({ stage }) => {
            if (stage === "ready") controller.abort(new RangeError("mine"));
          };
          const failed = await failure(() => create({ signal: controller.signal, onProgress }));
          return [failed, running() - before];
        }"""
    )
    assert aborted is not None
    assert (aborted["name"], aborted["message"], left) == ("RangeError", "mine", 0)
