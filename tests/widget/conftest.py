"""`<mlc-chat>` with a scripted engine, in somebody else's page with a strict policy."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from tests.browser import PATIENCE_MS, serving
from tests.page.conftest import RECORD_VIOLATIONS
from web.browser import chromium

ROOT = Path(__file__).parents[2]
AXE = (ROOT / "node_modules/axe-core/axe.min.js").read_text()
POLICY = (
    "default-src 'self'; img-src data:; "
    "script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; object-src 'none'"
)
SHOP = """<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>A shop</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="shop.css"><script type="module" src="dist/widget.js"></script></head>
<body><main><h1>A shop</h1><p>Buy <a href="#something">something</a>.</p>{inside}</main>{widget}</body>
</html>"""
STYLE = """html { font-family: serif; color-scheme: light dark; } main { max-width: 46rem; margin: auto; }
a { color: inherit; }
h2 { color: red; text-transform: uppercase; } button { border-radius: 0; letter-spacing: 5px; }"""
RECORD_EVENTS = """
window.events = [];
document.addEventListener("DOMContentLoaded", () => {
  for (const chat of document.querySelectorAll("mlc-chat")) {
    for (const type of ["consent", "progress", "ready", "message", "delta", "toolcall", "state", "error"]) {
      chat.addEventListener(type, ({ detail }) => events.push([type, detail]));
    }
  }
});
"""


@pytest.fixture(scope="session")
def scripted_widget(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop's folder with the widget bundled around the scripted engine."""
    folder = tmp_path_factory.mktemp("shop")
    subprocess.run(["node", "tests/widget/fake/build.mjs", str(folder)], check=True, cwd=ROOT)
    (folder / "shop.css").write_text(STYLE)
    return folder


@pytest.fixture(scope="session")
def shop_url(scripted_widget: Path) -> Iterator[str]:
    with serving(scripted_widget) as url:
        yield url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium(software=True, webgpu=False) as browser:
        yield browser


class Widget:
    """The widget as a person meets it, and as a site's script does."""

    def __init__(self, page: Page, requests: list[Request]) -> None:
        self.page = page
        self.requests = requests
        self.element = page.locator("mlc-chat").first
        self.open_button = self.button("Open chat")
        self.box = self.element.get_by_role("textbox", name="Message", exact=True)
        self.answers = self.element.get_by_role("article", name="Assistant")
        self.questions = self.element.get_by_role("article", name="You")
        self.log = self.element.get_by_role("log")
        self.announcer = self.element.locator("#announcer")
        self.frame = self.element.locator(".frame")
        self.card = self.element.locator("#card")

    def button(self, name: str) -> Locator:
        return self.element.get_by_role("button", name=name, exact=True)

    def open(self) -> None:
        self.open_button.click()

    def expect_state(self, state: str) -> None:
        expect(self.frame).to_have_attribute("data-state", state)

    def ask(self, text: str) -> None:
        complete = self.element.get_by_role("button", name="Copy answer")
        earlier = complete.count()
        self.box.fill(text)
        self.box.press("Enter")
        expect(complete).to_have_count(earlier + 1)

    def engine(self, call: str, *arguments: object) -> Any:
        """Call the scripted engine, e.g. `engine("push", "text")`."""
        return self.page.evaluate(
            "([call, args]) => widgetEngines.at(-1)[call](...args)", [call, arguments]
        )

    def run(self, script: str) -> Any:
        """What the JavaScript expression gives, with the element as `chat`."""
        return self.element.evaluate(f"async (chat) => {script}")

    def events(self, *kinds: str) -> list[Any]:
        """Details of the element's events of these kinds."""
        found: list[Any] = self.page.evaluate("events")
        return [detail for kind, detail in found if kind in kinds]

    def progress(self, stage: str, loaded: int, total: int) -> None:
        event = {"kind": "progress", "stage": stage, "loadedBytes": loaded, "totalBytes": total}
        self.engine("emit", {**event, "bytesPerSecond": 1_000_000})

    def asked_of_engine(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate("widgetEngines.at(-1).requests")
        return found

    def axe(self) -> list[Any]:
        """What axe finds wrong."""
        self.page.evaluate(f"globalThis.axe ?? (() => {{ {AXE} }}).call(globalThis)")
        results = self.page.evaluate("axe.run()")
        return [(v["id"], [n["html"] for n in v["nodes"]]) for v in results["violations"]]


OpenWidget = Callable[..., Widget]


@pytest.fixture
def open_widget(browser: Browser, shop_url: str) -> Iterator[OpenWidget]:
    """Opens a shop's page: `script` for the engine, `attributes` of the element, `context` for Playwright.

    With `beside`, in another tab of that widget's browser.
    """
    pages: list[Page] = []

    def open(
        script: dict[str, Any] | None = None,
        *,
        attributes: str = "",
        count: int = 1,
        inline: bool = False,
        lang: str = "en",
        init: str = "",
        routes: dict[str, Callable[[Route], None]] | None = None,
        beside: Widget | None = None,
        **context: Any,
    ) -> Widget:
        new_context = (
            beside.page.context if beside else browser.new_context(**{"locale": "en", **context})
        )
        new_context.set_default_timeout(PATIENCE_MS)
        page = new_context.new_page()
        pages.append(page)
        requests: list[Request] = []
        new_context.on("request", lambda request: requests.append(request))
        setup = f"window.widgetScript = {json.dumps(script or {})};"
        for part in (RECORD_VIOLATIONS, RECORD_EVENTS, setup + init):
            page.add_init_script(part)
        tag = f'<mlc-chat src="bundles/pocket/" {attributes}></mlc-chat>' * count
        places = {"inside": tag, "widget": ""} if inline else {"inside": "", "widget": tag}
        html = SHOP.format(lang=lang, **places)
        headers = {"content-type": "text/html", "content-security-policy": POLICY}
        page.route(shop_url, lambda route: route.fulfill(body=html, headers=headers))
        for pattern, answer in (routes or {}).items():
            page.route(pattern, answer)
        page.goto(shop_url)
        return Widget(page, requests)

    yield open
    violations = [v for page in pages for v in page.evaluate("window.violations")]
    for context in {page.context for page in pages}:
        context.close()
    assert violations == []
