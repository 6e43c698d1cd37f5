"""`<mlc-chat>` in each engine: what it says without WebGPU, and a server in the model's place."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from tests.browsers.browser import PHONE, RealBrowser
from tests.browsers.forward import Forward
from tests.daemon.daemons import Daemon
from tests.web.serving import Site, serving
from web.host import STATIC

POLICY = (
    "default-src 'self'; img-src data:; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'"
)
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A shop</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<script type="module" src="static/dist/widget.js"></script>
<main><h1>A shop</h1></main><mlc-chat src="bundles/fake/"></mlc-chat></html>"""
OPEN = """async (server) => {
  await customElements.whenDefined("mlc-chat");
  const chat = document.querySelector("mlc-chat");
  if (server) chat.setAttribute("server", server);
  chat.shadowRoot.querySelector(".launcher").click();
  return getComputedStyle(chat).display;
}"""


def script(expression: str) -> str:
    """JavaScript that gives this of the element `chat`, inside which `find` finds elements."""
    return f"""() => {{
      const chat = document.querySelector("mlc-chat");
      const find = (selector) => chat.shadowRoot.querySelector(selector);
      return {expression};
    }}"""


class Shop:
    """A page with the widget, the folder of its script, a bundle, and the API of a daemon."""

    def __init__(self, bundles: Path, daemon: Daemon) -> None:
        self._static = StaticFiles(directory=STATIC)
        self._bundles = StaticFiles(directory=bundles)
        self._daemon = Forward(daemon.url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == "/":
            page = HTMLResponse(PAGE, headers={"content-security-policy": POLICY})
            await page(scope, receive, send)
        elif path.startswith("/static/"):
            await self._static({**scope, "path": path, "root_path": "/static"}, receive, send)
        elif path.startswith("/bundles/fake/"):
            await self._bundles({**scope, "root_path": "/bundles/fake"}, receive, send)
        else:
            await self._daemon(scope, receive, send)


@pytest.fixture
def shop(fake_bundle: Path, daemon: Daemon) -> Iterator[Site]:
    with serving(Shop(fake_bundle, daemon)) as site:
        yield site


def test_it_says_what_this_browser_lacks(browser: RealBrowser, shop: Site):
    browser.resize(*PHONE)
    browser.open(shop.url)
    assert browser.run(OPEN, None) == "contents"
    browser.wait_for(script("chat.state === 'error'"))
    told = browser.run(script("find('#card').innerText"))
    assert "run the assistant." in told
    assert browser.run(script("find('.frame').getBoundingClientRect().width === innerWidth"))
    assert browser.problems() == []


def test_a_server_answers_in_its_place(browser: RealBrowser, shop: Site):
    browser.open(shop.url)
    browser.run(OPEN, "/v1")
    browser.wait_for(script("chat.state === 'ready'"))
    browser.run(script("void chat.send('What is 17 + 25?')"))
    browser.wait_for(script("""find('button[aria-label="Copy answer"]') !== null"""))
    assert (
        browser.run(script("find('article.assistant .body').innerText.trim()")) == "17 + 25 = 42."
    )
    escape = "new KeyboardEvent('keydown', { key: 'Escape', bubbles: true, composed: true })"
    browser.run(script(f"find('#message').dispatchEvent({escape})"))
    assert browser.run(script("!chat.open && find('.frame').hidden"))
    assert browser.run(script("chat.shadowRoot.activeElement === find('.launcher')"))
    assert browser.problems() == []


def test_it_opens_once_its_script_can_be_had(browser: RealBrowser, shop: Site):
    (panel,) = STATIC.glob("dist/widget-panel-*.js")
    shop.network.replies[f"/static/dist/{panel.name}"] = [Response(status_code=503)]
    browser.open(shop.url)
    browser.run(OPEN, None)
    browser.wait_for(script("find('[role=alert] button') !== null"))
    browser.run(script("find('[role=alert] button').click()"))
    browser.wait_for(script("chat.state === 'error'"))
