"""The engine's worker starts, fails and ends in each engine, seen through the library's client."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from tests.browsers.browser import RealBrowser, until
from tests.browsers.chat import click_button
from tests.browsers.conftest import OpenSite
from tests.web.serving import Site
from web.host import STATIC

WORKER = "/worker.js"
UNLOAD = """
async (script) => {
  globalThis.engine ??= new EngineClient({ workerUrl: script });
  return failure(() => engine.unload());
}
"""
RUNS = {"value": None}
ATTEMPTS = 3
# More than are asked for: in three attempts, and in looks at what the server says.
FOR_GOOD = 99


def unavailable() -> Response:
    return Response(status_code=503)


def unload(browser: RealBrowser, script: str = "worker.js") -> dict[str, Any]:
    """How the first call of a new client ends, or another call of that one."""
    answer: dict[str, Any] = browser.run(UNLOAD, script)
    return answer


@pytest.fixture
def page(browser: RealBrowser, engine_site: Site) -> RealBrowser:
    browser.open(engine_site.url)
    browser.wait_for("() => typeof EngineClient === 'function'")
    return browser


def test_worker_answers(page: RealBrowser, engine_site: Site):
    assert unload(page) == RUNS
    assert len(engine_site.network.requests(WORKER)) == 1


CALLED_AT_ONCE = """
async () => {
  const engine = new EngineClient({ workerUrl: "worker.js" });
  const count = () => failure(() => engine.countTokens([() => {}]));
  const early = await Promise.all([count(), failure(() => engine.unload())]);
  return [...early, await count()];
}
"""


def test_call_that_can_not_be_posted_fails_alone(page: RealBrowser):
    """Before the worker runs as after."""
    early, unloaded, late = page.run(CALLED_AT_ONCE)
    assert early["code"] == late["code"] == "invalid_request"
    assert unloaded == RUNS


def test_loads_name_the_option_that_there_is_not(page: RealBrowser):
    failed = page.run(
        """() => {
          const engine = new EngineClient({ workerUrl: "worker.js" });
          return failure(() => engine.load("bundles/x/", { initProgressCallback: () => {} }));
        }"""
    )
    assert failed["code"] == "invalid_request" and "initProgressCallback" in failed["message"]


def cut(site: Site) -> None:
    site.network.cuts[WORKER] = [1000]


def refuse(site: Site) -> None:
    site.network.replies[WORKER] = [unavailable()]


@pytest.mark.parametrize("fault", [cut, refuse])
def test_worker_that_failed_to_load_is_started_again(
    page: RealBrowser, engine_site: Site, fault: Callable[[Site], None]
):
    fault(engine_site)
    assert unload(page) == RUNS


class Silence(Response):
    """Nothing comes, not even headers, until the page has started so many workers."""

    def __init__(self, site: Site, workers: int) -> None:
        super().__init__()
        self._site = site
        self._workers = workers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while len(self._site.network.requests("/started")) < self._workers:
            await asyncio.sleep(0.005)


UNLOAD_SOON = """
async (startTimeoutMs) => {
  // In the page itself: drivers run scripts beside it.
  const script = document.createElement("script");
  script.textContent = `globalThis.Worker = class extends Worker {
    constructor(...given) { super(...given); void fetch("/started"); }
  };`;
  document.head.append(script);
  globalThis.engine = new EngineClient({ workerUrl: "worker.js", startTimeoutMs });
  const late = new Promise((resolve) => setTimeout(resolve, 60_000, "late"));
  return Promise.race([failure(() => engine.unload()), late]);
}
"""


def test_worker_that_hangs_is_started_again(page: RealBrowser, engine_site: Site):
    engine_site.network.replies[WORKER] = [Silence(engine_site, workers=2)]
    assert page.run(UNLOAD_SOON, 4_000) == RUNS


def test_worker_that_hangs_for_good_is_an_error_of_the_network(
    page: RealBrowser, engine_site: Site
):
    engine_site.network.replies[WORKER] = [
        Silence(engine_site, workers=ATTEMPTS + 1) for _ in range(ATTEMPTS)
    ]
    failed = page.run(UNLOAD_SOON, 2_000)
    assert failed["code"] == "network_error"
    assert "/worker.js" in failed["message"] and "within 2 s" in failed["message"]
    assert len(engine_site.network.requests("/started")) == ATTEMPTS


@pytest.mark.parametrize(
    ("reply", "found"),
    [(unavailable, "status 503"), (lambda: HTMLResponse("<p>Log in</p>"), "text/html")],
)
def test_worker_that_stays_away_is_an_error_of_the_network_until_it_comes(
    page: RealBrowser, engine_site: Site, reply: Callable[[], Response], found: str
):
    engine_site.network.replies[WORKER] = [reply() for _ in range(FOR_GOOD)]
    failed = unload(page)
    assert (failed["name"], failed["code"]) == ("EngineError", "network_error")
    assert "/worker.js" in failed["message"] and found in failed["message"]
    engine_site.network.replies.clear()
    assert unload(page) == RUNS


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("throw new RangeError('broken at its start');", "broken at its start"),
        (
            "postMessage({ kind: 'started' });"
            "onmessage = () => { throw new TypeError('broken at run time'); };",
            "broken at run time",
        ),
        ("const = 1;", "syntax.js"),
    ],
    ids=["start", "run-time", "syntax"],
)
def test_worker_that_is_broken_says_how(
    page: RealBrowser,
    engine_folder: Path,
    script: str,
    said: str,
    request: pytest.FixtureRequest,
):
    name = "syntax.js" if "const" in script else f"{request.node.callspec.id}.js"
    (engine_folder / name).write_text(script)
    failed = unload(page, name)
    assert failed["code"] == "internal"
    # A module that doesn't parse is for some browsers as one that wasn't loaded.
    assert said in failed["message"] or "SyntaxError" in failed["message"]


def test_calls_can_be_aborted_while_the_worker_starts(page: RealBrowser, engine_site: Site):
    engine_site.network.replies[WORKER] = [unavailable() for _ in range(FOR_GOOD)]
    failed = page.run(
        """() => {
          globalThis.engine = new EngineClient({ workerUrl: "worker.js" });
          return failure(() => engine.check("bundles/none/", { signal: AbortSignal.timeout(1) }));
        }"""
    )
    assert failed["name"] == "TimeoutError"


def test_calls_after_dispose_end(page: RealBrowser):
    ended = page.run(
        """async () => {
          const engine = new EngineClient({ workerUrl: "worker.js" });
          await engine.unload();
          const messages = [{ role: "user", content: "x" }];
          const open = failure(() => engine.check("bundles/none/"));
          engine.dispose();
          const read = async () => {
            for await (const _ of await engine.chat.completions.create({ messages, stream: true }));
          };
          return Promise.all([
            open,
            failure(() => engine.unload()),
            failure(() => engine.chat.completions.create({ messages })),
            failure(read),
          ]);
        }"""
    )
    assert {failed["name"] for failed in ended} == {"EngineError"}
    assert {failed["message"] for failed in ended} == {"The engine was disposed."}


def test_port_is_started(page: RealBrowser):
    answer = page.run(
        """() => {
          const { port1, port2 } = new MessageChannel();
          port2.onmessage = ({ data }) =>
            port2.postMessage({ kind: "result", id: data.id, value: "from the port" });
          return failure(() => new EngineClient({ endpoint: port1 }).check("bundles/fake/"));
        }"""
    )
    assert answer == {"value": "from the port"}


def test_a_shared_worker_serves_each_of_its_pages(page: RealBrowser):
    answers = page.run(
        """() => Promise.all([1, 2].map(() => {
          const { port } = new SharedWorker("worker.js", { type: "module" });
          return failure(() => new EngineClient({ endpoint: port }).unload());
        }))"""
    )
    assert answers == [RUNS, RUNS]


SHARE = """
async (sharedWorkers) => {
  // In the page itself: drivers run scripts beside it.
  const script = document.createElement("script");
  script.textContent = `globalThis.Worker = class extends Worker {
    constructor(...given) { super(...given); void fetch("/started"); }
  }; if (!${sharedWorkers}) delete globalThis.SharedWorker;`;
  document.head.append(script);
  const share = () => new EngineClient({ workerUrl: "worker.js", shared: true });
  const engines = [share(), share()];
  const call = (engine) => failure(() => engine.unload());
  const answers = await Promise.all(engines.map(call));
  engines[0].dispose();
  answers.push(await call(engines[1]));
  const late = await call(engines[0]);
  engines[1].dispose();
  return [answers, late.message];
}
"""


@pytest.mark.parametrize("shared_workers", [True, False])
def test_clients_share_an_engine_and_outlive_each_other(
    page: RealBrowser, engine_site: Site, shared_workers: bool
):
    """Where a SharedWorker has no WebGPU, or there is none, one of them runs a worker for both."""
    answers, late = page.run(SHARE, shared_workers)
    assert answers == [RUNS, RUNS, RUNS]
    assert late == "The engine was disposed."
    # None beside a SharedWorker; else that of the one which was elected, and another if that was the first.
    if not shared_workers:
        until(lambda: engine_site.network.requests("/started"), lambda: "no worker was told of")
    assert len(engine_site.network.requests("/started")) <= 2


def test_a_shared_engine_that_stays_away_is_an_error_of_the_network_until_it_comes(
    page: RealBrowser, engine_site: Site
):
    unload_shared = """() => {
      globalThis.engine ??= new EngineClient({ workerUrl: "worker.js", shared: true });
      return failure(() => engine.unload());
    }"""
    engine_site.network.replies[WORKER] = [unavailable() for _ in range(FOR_GOOD)]
    failed = page.run(unload_shared)
    assert failed["code"] == "network_error" and "status 503" in failed["message"]
    engine_site.network.replies.clear()
    cut(engine_site)
    assert page.run(unload_shared) == RUNS


SHARE_WITH_SILENCE = """
async (startTimeoutMs) => {
  const script = document.createElement("script");
  script.textContent = `globalThis.SharedWorker = class extends EventTarget {
    port = new MessageChannel().port1;
  };`;
  document.head.append(script);
  const engine = new EngineClient({ workerUrl: "worker.js", shared: true, startTimeoutMs });
  const late = new Promise((resolve) => setTimeout(resolve, 0.8 * startTimeoutMs, "late"));
  return Promise.race([failure(() => engine.unload()), late]);
}
"""


def test_a_shared_worker_that_is_silent_though_its_script_is_there_is_given_up_soon(
    page: RealBrowser,
):
    """Firefox connects pages to one that is failing, and says nothing of it."""
    assert page.run(SHARE_WITH_SILENCE, 30_000) == RUNS


@pytest.mark.parametrize("kind", ["RangeError", "TypeError"])
def test_an_error_inside_the_engine_is_what_it_is(page: RealBrowser, kind: str):
    """Neither a lack of memory nor an error of the network, though these have the same types."""
    failed = page.run(
        """async (kind) => {
          const planted = `
            Object.defineProperty(navigator, "gpu", {
              value: { requestAdapter: () => { throw new ${kind}("a fault of ours"); } },
            });
            import "${new URL("worker.js", location.href)}";`;
          const script = new Blob([planted], { type: "text/javascript" });
          const worker = new Worker(URL.createObjectURL(script), { type: "module" });
          const engine = new EngineClient({ endpoint: worker });
          return failure(() => engine.check("bundles/fake/"));
        }""",
        kind,
    )
    assert (failed["code"], failed["message"]) == ("internal", "a fault of ours")


def test_the_page_recovers_without_reloading(
    browser: RealBrowser, open_site: OpenSite, fake_bundle: Path
):
    site = open_site(fake_bundle)
    (script,) = STATIC.glob("dist/engine-*.js")
    # A service worker would have it.
    site.network.replies["/service-worker.js"] = [unavailable() for _ in range(3)]
    replies = site.network.replies[f"/dist/{script.name}"] = [unavailable() for _ in range(99)]
    browser.open(site.url)
    card = browser.wait_for_text("#model-card", "Could not load the engine's worker")
    assert re.search("status 503.*Check the connection", card, re.DOTALL)
    replies.clear()
    browser.run("() => { window.mark = 'not reloaded'; }")
    click_button(browser, "Try again")
    browser.wait_for_text("#model-card", "Which browsers work")
    assert browser.run("() => window.mark") == "not reloaded"
