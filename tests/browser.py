"""The engine in a real browser, without the chat page: fixtures and what they serve."""

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from web.browser import chromium

ROOT = Path(__file__).parent.parent
WORKER = ROOT / "web/worker"
TIMEOUT_MS = 180_000
# For what a page does at once, on a machine that is busy with other tests.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
# What is loaded already would be there at once.
AFRESH = "engine.unload().then(() => engine.load(url, options))"
PAGE = """<!doctype html><title>engine</title><link rel="icon" href="data:,">
<script type="module">
import { EngineClient } from "./client.js";
globalThis.EngineClient = EngineClient;
globalThis.events = [];
const blob = (source) => URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
/** The worker's address, behind a script that runs in it first. */
const workerAfter = (source) =>
  blob(`import "${blob(source)}"; import "${new URL("worker.js", location.href)}";`);
const workerUrl = globalThis.beforeWorker ? workerAfter(beforeWorker) : "worker.js";
if (!globalThis.shared) globalThis.worker = new Worker(workerUrl, { type: "module" });
const source = globalThis.shared ? { workerUrl, shared } : { endpoint: worker };
globalThis.engine = new EngineClient(source);
engine.onEvent((event) => events.push(event));
/** An answer in parts, and what they make up. */
globalThis.stream = async (params, { abortAfter, loseAt = [] } = {}) => {
  const controller = new AbortController();
  const chunks = [];
  let ended = "done";
  try {
    const options = { signal: controller.signal };
    const answer = await engine.chat.completions.create({ ...params, stream: true }, options);
    for await (const chunk of answer) {
      chunks.push(chunk);
      if (loseAt.includes(chunks.length)) await engine.debug.loseDevice();
      if (chunks.length === abortAfter) controller.abort();
    }
  } catch (error) {
    ended = { name: error.name, code: error.code, message: error.message };
  }
  const choices = chunks.flatMap(({ choices }) => choices);
  const text = choices.map(({ delta }) => delta.content ?? "").join("");
  const finish = choices.map((choice) => choice.finish_reason).filter(Boolean);
  return { chunks, ended, text, finish, usage: chunks.at(-1)?.usage ?? null };
};
/** What a call throws, as data. */
globalThis.failure = async (call) => {
  try {
    await call();
  } catch ({ name, code, message, remedy, param }) {
    return { name, code, message, remedy, param };
  }
  return null;
};
globalThis.ready = true;
</script>"""


def bundle_script(entry: Path, output: Path) -> None:
    """Bundles TypeScript as `web/build.mjs` does, without minifying."""
    names = ["fs", "path", "crypto", "perf_hooks", "ws", "url", "module", "node:*"]
    options = ["--bundle", "--format=esm", "--target=es2022", "--log-level=warning"]
    tool = str(ROOT / "node_modules/.bin/esbuild")
    command = [tool, str(entry), f"--outfile={output}", *options]
    subprocess.run([*command, *(f"--external:{name}" for name in names)], check=True, cwd=ROOT)


def build_bundle(checkpoint: Path, output: Path, *options: str) -> Path:
    """What `mlc-edge build` makes of a checkpoint."""
    command = [sys.executable, "-m", "mlc_edge", "build", str(checkpoint), "--output", str(output)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A plain file server, as a CDN would be; gives its URL, with a slash at its end."""
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_for_value(page: Page, read: Callable[[], object], wanted: object) -> None:
    """Waits until `read` gives what is wanted; fails with what it gives in the end."""
    deadline = monotonic() + PATIENCE_MS / 1000
    while (found := read()) != wanted and monotonic() < deadline:
        page.evaluate("new Promise(requestAnimationFrame)")
    assert found == wanted


class Held:
    """For `page.route`: requests that are answered when the test says so."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def __call__(self, route: Route) -> None:
        self.routes.append(route)

    def wait(self, page: Page) -> None:
        """Waits until there is one."""
        wait_for_value(page, lambda: bool(self.routes), True)

    def let_go(self, page: Page) -> None:
        self.wait(page)
        for route in self.routes:
            route.continue_()


class EnginePage:
    """A page with an EngineClient as `engine`; `run` evaluates JavaScript in it."""

    def __init__(self, page: Page, url: str, before_worker: str = "") -> None:
        self.page = page
        page.add_init_script(f"globalThis.beforeWorker = {json.dumps(before_worker)};")
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(url + "page.html")
        page.wait_for_function("globalThis.ready === true")

    def run(self, script: str, argument: Any = None) -> Any:
        """What the JavaScript function `script` returns; fails if that takes too long."""
        return self.page.evaluate(
            f"""(argument) => Promise.race([({script})(argument), new Promise((_, reject) =>
              setTimeout(() => reject(new Error("no answer in time")), {TIMEOUT_MS}))])""",
            argument,
        )

    def load(self, bundle: str, **options: Any) -> dict[str, Any]:
        model: dict[str, Any] = self.run(
            f"([url, options]) => {AFRESH}", [f"bundles/{bundle}/", options]
        )
        return model

    def load_failure(self, bundle: str, **options: Any) -> dict[str, Any]:
        failed: dict[str, Any] = self.run(
            f"([url, options]) => failure(() => {AFRESH})",
            [f"bundles/{bundle}/", options],
        )
        return failed

    def complete(self, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.run("(p) => engine.chat.completions.create(p)", params)
        return answer

    def complete_failure(self, **params: Any) -> dict[str, Any]:
        failed: dict[str, Any] = self.run(
            "(p) => failure(() => engine.chat.completions.create(p))", params
        )
        return failed

    def stream(self, params: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.run("([p, o]) => stream(p, o)", [params, options])
        return answer

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run("() => events")
        return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Computes WebGPU on the CPU, with SwiftShader."""
    with chromium(software=True) as browser:
        yield browser


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the page and the engine; tests put bundles under `bundles/`."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "page.html").write_text(PAGE)
    (folder / "bundles").mkdir()
    bundle_script(WORKER / "client/index.ts", folder / "client.js")
    bundle_script(WORKER / "engine/worker.ts", folder / "worker.js")
    return folder


@pytest.fixture(scope="package")
def site_url(site: Path) -> Iterator[str]:
    with serving(site) as url:
        yield url


@contextmanager
def engine_page(browser: Browser, url: str, before_worker: str = "") -> Iterator[EnginePage]:
    """A page in a context of its own, which ends with the block.

    `before_worker` is JavaScript that runs in the worker before the engine.
    """
    context: BrowserContext = browser.new_context()
    try:
        yield EnginePage(context.new_page(), url, before_worker)
    finally:
        context.close()
