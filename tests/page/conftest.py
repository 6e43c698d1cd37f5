"""The chat page with a scripted engine, in Chromium, served with the host's own headers."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Route, expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from tests.browser import PATIENCE_MS
from web.browser import chromium
from web.security import SecurityHeaders
from web.server import bind

ROOT = Path(__file__).parent.parent.parent
STATIC = ROOT / "web/static"
POCKET = {
    "id": "pocket-q4f16_1",
    "url": "bundles/pocket-q4f16_1/",
    "bytes": 2_400_000,
    "model_type": "llama",
    "quantization": "q4f16_1",
    "context_window_size": 1024,
}
BIG = {
    "id": "big-q4f16_1",
    "url": "bundles/big-q4f16_1/",
    "bytes": 1_200_000_000,
    "model_type": "llama",
    "quantization": "q4f16_1",
    "context_window_size": 8192,
}
RECORD_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


def build_page(folder: Path) -> None:
    """The page bundled around the scripted engine, as static files."""
    for name in ("icon.svg", "manifest.webmanifest"):
        shutil.copy(STATIC / name, folder)
    page = (STATIC / "page.html").read_text()
    for name in ("chat.js", "chat.css", "engine.js"):
        page = page.replace("{{" + name + "}}", name)
    page = page.replace("{{chat.imports}}", "")
    (folder / "index.html").write_text(page)
    bundle = ["--bundle", "--format=esm", "--log-level=warning", f"--outdir={folder}/dist"]
    script = ["chat=tests/page/fake/entry.ts", "--splitting", "--chunk-names=[name]-[hash]"]
    style = [f"chat={STATIC}/chat.css", "math=node_modules/katex/dist/katex.css"]
    fonts = ["--loader:.woff2=file", "--loader:.woff=empty", "--loader:.ttf=empty"]
    for options in (
        [
            *script,
            "--define:MATH_STYLE='./math.css'",
            "--define:DIAGRAM_FRAME='./diagram-AAAAAAAA.html'",
        ],
        [*style, *fonts, "--asset-names=[name]"],
    ):
        subprocess.run(["node_modules/.bin/esbuild", *bundle, *options], check=True, cwd=ROOT)
    make = 'import { diagramPage } from "./web/diagram.mjs"; console.log(await diagramPage());'
    diagram = subprocess.run(
        ["node", "--input-type=module", "-e", make], check=True, cwd=ROOT, capture_output=True
    )
    (folder / "dist/diagram-AAAAAAAA.html").write_bytes(diagram.stdout)


@pytest.fixture(scope="session")
def built_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    build_page(folder)
    return folder


@pytest.fixture(scope="session")
def host_url(built_page: Path) -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    app = Starlette(
        routes=[Mount("/", StaticFiles(directory=built_page, html=True))],
        middleware=[Middleware(SecurityHeaders, bundles="/bundles/")],
    )
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium(software=True, webgpu=False) as browser:
        yield browser


class Chat:
    """The page as a person meets it: by names and roles."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.box = page.get_by_role("textbox", name="Message", exact=True)
        self.send_button = page.get_by_role("button", name="Send", exact=True)
        self.stop_button = page.get_by_role("button", name="Stop", exact=True)
        self.answers = page.get_by_role("article", name="Assistant")
        self.questions = page.get_by_role("article", name="You")
        self.texts = page.locator("article .body")
        """What all messages say, oldest first."""
        self.log = page.get_by_role("log")
        self.conversations = page.get_by_role("navigation", name="Conversations")

    def expect_engine(self, state: str) -> None:
        expect(self.page.locator("html")).to_have_attribute("data-engine", state)

    def send(self, text: str) -> None:
        self.box.fill(text)
        self.send_button.click()

    def ask(self, text: str) -> None:
        """Send a message and wait for its answer, which can be copied once it is complete."""
        complete = self.page.get_by_role("button", name="Copy answer")
        earlier = complete.count()
        self.send(text)
        expect(complete).to_have_count(earlier + 1)
        self.expect_engine("ready")

    def expect_kept(self) -> None:
        """Wait until the database has all that is shown, and the list all that is in the database."""
        self.page.wait_for_function("() => !fake.isStoreBusy()")

    @property
    def address(self) -> str:
        """As the page has it: Playwright hears of it later."""
        return self.page.evaluate("location.href")

    def reload(self) -> None:
        """Reload once everything is kept, and wait for the engine."""
        self.expect_kept()
        self.page.reload()
        self.expect_engine("ready")

    def engine(self, call: str, *arguments: object) -> Any:
        """Call the scripted engine, e.g. `engine("push", "text")`."""
        return self.page.evaluate("([call, args]) => fake.engine[call](...args)", [call, arguments])

    def requests(self) -> list[dict[str, Any]]:
        return self.page.evaluate("fake.engine.requests")

    def open_settings(self) -> None:
        self.page.get_by_role("button", name="Settings", exact=True).click()

    def open_models(self) -> None:
        self.page.locator("#model-button").click()

    def open_menu(self, title: str) -> None:
        """Open the options of a conversation in the sidebar."""
        self.page.get_by_role("button", name=f"Options for {title}").click()


@pytest.fixture(scope="module")
def page_to_render(browser: Browser, host_url: str) -> Iterator[Chat]:
    """A page to render in, that tests leave as it is."""
    page = browser.new_page()
    page.route("**/bundles/index.json", lambda route: route.fulfill(json={"bundles": []}))
    page.goto(host_url)
    page.wait_for_function("() => globalThis.fake !== undefined")
    yield Chat(page)
    page.close()


OpenChat = Callable[..., Chat]


@pytest.fixture
def open_chat(browser: Browser, host_url: str) -> Iterator[OpenChat]:
    """Opens the page: `script` for the engine, `bundles` of the host, `context` for Playwright.

    `daemon` answers what the page asks of the API under v1/, if there is one.
    """
    pages: list[Page] = []

    def open(
        script: dict[str, Any] | None = None,
        *,
        bundles: tuple[dict[str, Any], ...] = (POCKET,),
        daemon: Callable[[Route], None] | None = None,
        init: str = "",
        ready: bool = True,
        **context: Any,
    ) -> Chat:
        new_context = browser.new_context(**context)
        new_context.set_default_timeout(PATIENCE_MS)
        page = new_context.new_page()
        pages.append(page)
        page.add_init_script(RECORD_VIOLATIONS)
        page.add_init_script(f"window.script = {json.dumps(script or {})};{init}")
        index: dict[str, Any] = {"bundles": list(bundles)}
        if daemon:
            index["daemon"] = {"url": "v1/", "models": [{**POCKET, "url": None}]}
            page.route("**/v1/**", daemon)
        page.route("**/bundles/index.json", lambda route: route.fulfill(json=index))
        page.goto(host_url)
        chat = Chat(page)
        if ready:
            chat.expect_engine("ready")
        return chat

    yield open
    violations = [v for page in pages for v in page.evaluate("window.violations")]
    for page in pages:
        page.context.close()
    assert violations == []
