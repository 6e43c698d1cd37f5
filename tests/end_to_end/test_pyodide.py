"""Python in the page, by Pyodide: the wheel of a site, installed in both ways, runs its model."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from mlc_edge.version import __version__
from tests.browser import WORKER, bundle_script, serving
from tests.browsers.openai_server import Held, OpenAiServer
from tests.end_to_end.conftest import ROOT, Host
from tests.web.serving import serving as serving_app
from web.site.wheel import write_wheel

PYODIDE = ROOT / "node_modules/pyodide"
EXAMPLE = ROOT / "examples/pyodide"
WHEEL = f"dist/mlc_edge_web-{__version__}-py3-none-any.whl"
TIMEOUT_MS = 240_000
PAGE = """<!doctype html><title>Python</title><link rel="icon" href="data:,"><script type="module">
import { loadPyodide } from "./pyodide/pyodide.mjs";
globalThis.python = await loadPyodide({ indexURL: "./pyodide/" });
</script>"""
ANSWERS = """
import asyncio
from mlc_edge import MLCEngine
from mlc_edge.errors import EngineError
from mlc_edge.openai import ChatCompletion

steps, found = [], {}
question = [{"role": "user", "content": "What is 17 + 25?"}]
story = [{"role": "user", "content": "Tell me a story about a cat."}]
engine = await MLCEngine.create(progress=lambda step, share: steps.append((step, share)))
create = engine.chat.completions.create
answer = await create(messages=question, temperature=0, max_tokens=None)
found["model"] = [engine.model, answer.model]
found["typed"] = isinstance(answer, ChatCompletion)
found["text"] = answer.choices[0].message.content
found["usage"] = answer.usage.prompt_tokens > 0 and answer.to_dict()["usage"]["extra"]["e2e_latency_s"] > 0
asked = dict(messages=story, temperature=0, max_tokens=24)
whole = await create(**asked)
chunks = [chunk async for chunk in await create(**asked, stream=True, stream_options={"include_usage": True})]
texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
found["streamed"] = len(texts) > 5 and "".join(texts) == whole.choices[0].message.content
found["last"] = chunks[-1].usage.completion_tokens
try:
    await create(messages=question, temperature=5)
except EngineError as error:
    found["refused"] = [error.code, error.param]
stream = await create(messages=story, stream=True, ignore_eos=True)
await anext(stream)
await stream.aclose()
found["closed"] = [chunk async for chunk in stream]
task = asyncio.ensure_future(create(messages=story, ignore_eos=True, max_tokens=900))
await asyncio.sleep(0)
task.cancel()
try:
    await task
except asyncio.CancelledError:
    # The next answer comes without those 900 tokens before it.
    found["after"] = (await create(messages=question, temperature=0)).choices[0].message.content
await engine.close()
try:
    await create(messages=question)
except EngineError as error:
    found["disposed"] = error.code
found["steps"] = sorted({step for step, share in steps})
found["shares"] = all(share is None or 0 <= share <= 1 for step, share in steps)
import json
json.dumps(found)
"""
QUESTION = """
from mlc_edge import MLCEngine
engine = await MLCEngine.create()
messages = [{"role": "user", "content": "What is 17 + 25?"}]
answer = await engine.chat.completions.create(messages=messages, temperature=0)
answer.choices[0].message.content
"""
POLICY_PAGE = """<!doctype html><title>strict</title><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'self'; img-src data:;
  script-src 'self' {site} 'wasm-unsafe-eval'; worker-src blob: {site}; connect-src 'self' {site}">
<script type="module" src="main.js"></script><output></output>"""
POLICY_SCRIPT = """
import { loadPyodide } from "./pyodide/pyodide.mjs";
import * as library from "%sdist/mlc-edge.js";
const output = document.querySelector("output");
try {
  const python = await loadPyodide({ indexURL: "./pyodide/" });
  python.registerJsModule("mlc_edge_library", library);
  await python.loadPackage("%s");
  output.textContent = await python.runPythonAsync(%s);
} catch (error) {
  output.textContent = error.message;
}
"""
REFUSALS = """
from mlc_edge import MLCEngine
from mlc_edge.errors import EngineError
codes = []
for options in ({"model": "absent"}, {"nonsense": 1}):
    try:
        await MLCEngine.create(**options)
    except EngineError as error:
        codes.append(error.code)
" ".join(codes)
"""


WITH_SERVER = """
from mlc_edge import MLCEngine
from mlc_edge.errors import EngineError
found = []
server = {"remote": "%sv1", "consent": True}
for attempt in range(3):
    try:
        engine = await MLCEngine.create(workerURL="worker.js", backends=[server])
        found.append(engine.model)
    except EngineError as error:
        found.append(error.code)
messages = [{"role": "user", "content": "Hi"}]
tools = [{"type": "function", "function": {"name": "add"}}]
for more in ({"tools": tools}, {"tools": []}):
    try:
        answer = await engine.chat.completions.create(messages=messages, **more)
        found.append(answer.choices[0].message.content)
    except EngineError as error:
        found.append(f"{error.code} {error.param}")
found
"""

STREAM_LEFT = """
stream = await engine.chat.completions.create(messages=messages, stream=True)
await anext(stream)
await stream.aclose()
"""
ANSWER_AWAITED = """
import asyncio
task = asyncio.ensure_future(engine.chat.completions.create(messages=messages))
None
"""
ENGINE_LEFT = """
async with engine:
    open = engine.model
try:
    await engine.chat.completions.create(messages=messages)
except EngineError as error:
    found = [open, error.code]
found
"""
WAIT_S = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with Pyodide."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "pyodide").symlink_to(PYODIDE)
    (folder / "index.html").write_text(PAGE)
    return folder


@pytest.fixture
def open_python(browser: Browser, folder: Path) -> Iterator[Callable[[], Page]]:
    with serving(folder) as url:

        def open() -> Page:
            page = browser.new_context().new_page()
            page.set_default_timeout(TIMEOUT_MS)
            page.goto(url)
            page.wait_for_function("globalThis.python")
            return page

        yield open


@pytest.fixture
def site(start_host: Callable[..., Host], static_site: Path) -> str:
    return start_host("--site", static_site, "--embed", "*").url


def test_the_wheel_has_the_engines_api(open_python: Callable[[], Page], site: str):
    page = open_python()
    page.evaluate("(wheel) => python.loadPackage(wheel)", site + WHEEL)
    found = page.evaluate("async (code) => JSON.parse(await python.runPythonAsync(code))", ANSWERS)
    assert found["model"] == ["pocket-q4f32_1"] * 2
    assert found["text"] == found["after"] == "17 + 25 = 42."
    assert found["typed"] and found["usage"] and found["streamed"] and found["last"] == 24
    assert found["refused"] == ["invalid_request", "temperature"]
    assert found["closed"] == []
    assert found["disposed"] == "model_not_loaded"
    assert {"download", "pipelines", "ready"} <= set(found["steps"]) and found["shares"]


def test_micropip_installs_it(open_python: Callable[[], Page], site: str, folder: Path):
    options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.14", "-d", folder]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options]
    subprocess.run([*command, "micropip", "packaging"], check=True)
    page = open_python()
    wheels = [path.name for path in folder.glob("*.whl")]
    page.evaluate(
        "(wheels) => python.loadPackage(wheels.map((name) => new URL(name, location).href))", wheels
    )
    page.evaluate("(wheel) => python.pyimport('micropip').install(wheel)", site + WHEEL)
    refusals = page.evaluate("(code) => python.runPythonAsync(code)", REFUSALS)
    assert refusals == "network_error invalid_request"


def test_with_a_server_the_library_is_fetched_again_tools_are_refused_and_leaving_ends(
    open_python: Callable[[], Page], folder: Path
):
    library = folder / "dist"
    library.mkdir()
    bundle_script(WORKER / "client/index.ts", library / "mlc-edge.js")
    wheel = write_wheel(library)
    far = OpenAiServer()
    page = open_python()
    page.evaluate(
        "(wheel) => python.loadPackage(new URL(wheel, location).href)", f"dist/{wheel.name}"
    )
    # Some browsers remember of an address that it failed.
    addresses: list[str] = []
    page.route("**/dist/mlc-edge.js*", lambda route: route.abort(), times=2)
    page.on("request", lambda asked: addresses.append(asked.url))
    with serving_app(far.app()) as site:
        code = WITH_SERVER % site.url
        found = page.evaluate("async (code) => (await python.runPythonAsync(code)).toJs()", code)
        failed = ["network_error"] * 2
        assert found == [*failed, "far-1", "invalid_request tools", "Hello from afar."]
        assert len(far.asked) == 1
        assert len({address for address in addresses if "/mlc-edge.js" in address}) == 3

        stream = far.next = Held()
        page.evaluate("async (code) => void await python.runPythonAsync(code)", STREAM_LEFT)
        assert stream.left.wait(WAIT_S)
        answer = far.next = Held()
        page.evaluate("async (code) => void await python.runPythonAsync(code)", ANSWER_AWAITED)
        assert answer.begun.wait(WAIT_S)
        page.evaluate("() => void python.runPython('task.cancel()')")
        assert answer.left.wait(WAIT_S)
        left = page.evaluate(
            "async (code) => (await python.runPythonAsync(code)).toJs()", ENGINE_LEFT
        )
        assert left == ["far-1", "model_not_loaded"]


def test_a_page_with_a_policy_brings_the_library_itself(
    browser: Browser, site: str, tmp_path: Path
):
    (tmp_path / "pyodide").symlink_to(PYODIDE)
    (tmp_path / "index.html").write_text(POLICY_PAGE.format(site=site))
    (tmp_path / "main.js").write_text(POLICY_SCRIPT % (site, site + WHEEL, json.dumps(QUESTION)))
    with serving(tmp_path) as url:
        page = browser.new_context().new_page()
        page.goto(url)
        expect(page.locator("output")).not_to_be_empty(timeout=TIMEOUT_MS)
        assert page.locator("output").inner_text() == "17 + 25 = 42."


def test_the_example(browser: Browser, static_site: Path, tmp_path: Path):
    for source in EXAMPLE.glob("*.*"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "site").symlink_to(static_site)

    def deliver(route: Route) -> None:
        route.fulfill(path=PYODIDE / route.request.url.rsplit("/", 1)[1])

    with serving(tmp_path) as url:
        page = browser.new_context().new_page()
        page.route("https://cdn.jsdelivr.net/pyodide/v314.0.7/full/*", deliver)
        page.goto(url)
        run = page.get_by_role("button", name="Run")
        expect(run).to_be_enabled(timeout=TIMEOUT_MS)
        run.click()
        expect(page.locator("output")).to_have_text(
            "pocket-q4f32_1: 17 + 25 = 42.", timeout=TIMEOUT_MS
        )
        expect(run).to_be_enabled(timeout=TIMEOUT_MS)
        assert len(page.locator("pre").inner_text()) > 20
