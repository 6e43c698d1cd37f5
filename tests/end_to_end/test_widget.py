"""`<mlc-chat>` with the embedded model: in the plain example, in a frame, in a page of another origin."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect

from tests.browser import serving
from tests.end_to_end.conftest import ROOT, Host
from tests.page.conftest import RECORD_VIOLATIONS

SLOW_GPU_MS = 240_000
FRAME = """<!doctype html><meta charset="utf-8"><title>a portal</title><link rel="icon" href="data:,">
<iframe src="{}" title="A shop" width="1000" height="700"></iframe>"""
SHOP = """<!doctype html><html lang="en"><meta charset="utf-8"><title>a shop</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'self'; img-src data:;
  script-src 'self' {site} 'wasm-unsafe-eval'; worker-src blob: {site}; connect-src {site}">
<link rel="icon" href="data:,">
<script type="module" src="{site}dist/widget.js" integrity="{integrity}" crossorigin></script>
<mlc-chat mode="inline" open></mlc-chat>"""


def ask(page: Page | FrameLocator, question: str) -> str:
    """Agree to the download where that is asked for; the answer."""
    chat = page.locator("mlc-chat")
    frame = chat.locator(".frame")
    expect(frame).to_have_attribute("data-state", "consent", timeout=SLOW_GPU_MS)
    chat.get_by_role("button", name="Download").click()
    expect(frame).to_have_attribute("data-state", "ready", timeout=SLOW_GPU_MS)
    chat.get_by_role("textbox", name="Message").fill(question)
    chat.get_by_role("button", name="Send").click()
    expect(chat.get_by_role("button", name="Copy answer")).to_be_visible(timeout=SLOW_GPU_MS)
    return chat.locator("article .body").last.inner_text()


def write_example(folder: Path, site: Path) -> None:
    """The example as its README makes it, below a path."""
    shutil.copytree(ROOT / "examples/plain", folder, ignore=shutil.ignore_patterns("mlc-edge"))
    shutil.copytree(site, folder / "mlc-edge")


def recording(browser: Browser) -> tuple[BrowserContext, list[str]]:
    """A context, and the addresses that its pages and workers ask for."""
    context = browser.new_context(locale="en", viewport={"width": 1100, "height": 800})
    context.add_init_script(RECORD_VIOLATIONS)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    return context, asked


def test_the_plain_example_answers_below_a_path(
    browser: Browser, static_site: Path, tmp_path: Path
):
    write_example(tmp_path / "www/deep/shop", static_site)
    with serving(tmp_path / "www") as url:
        context, asked = recording(browser)
        page = context.new_page()
        page.goto(f"{url}deep/shop/")
        opener = page.get_by_role("button", name="Open chat")
        expect(opener).to_be_visible()
        before = [address for address in asked if not address.endswith("icon.svg")]
        names = ("", "shop.css", "mlc-edge/dist/widget.js", "shop.js")
        assert sorted(before) == sorted(f"{url}deep/shop/{name}" for name in names)
        opener.click()
        assert "42" in ask(page, "What is 17 + 25?")
        assert all(address.startswith(f"{url}deep/shop/") for address in asked), asked
        assert context.cookies() == []
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        assert page.evaluate("violations") == []
        context.close()


def test_the_example_answers_in_a_frame_of_another_site(
    browser: Browser, static_site: Path, tmp_path: Path
):
    write_example(tmp_path / "www", static_site)
    with serving(tmp_path / "www") as url, serving(tmp_path) as portal:
        # Another name is another site, whose frames get storage of their own.
        outside = portal.replace("127.0.0.1", "localhost")
        (tmp_path / "portal.html").write_text(FRAME.format(url))
        context, _ = recording(browser)
        page = context.new_page()
        page.goto(f"{outside}portal.html")
        frame = page.frame_locator("iframe")
        frame.get_by_role("button", name="Open chat").click()
        assert "42" in ask(frame, "What is 17 + 25?")
        assert page.frames[1].evaluate("violations") == []
        context.close()


def test_a_page_of_another_origin_with_a_strict_policy(
    browser: Browser, static_site: Path, start_host: Callable[..., Host], tmp_path: Path
):
    host = start_host("--site", static_site, "--embed", "*")
    lock = json.loads((static_site / "mlc-lock.json").read_text())
    integrity = {file["path"]: file.get("integrity") for file in lock["files"]}
    (tmp_path / "index.html").write_text(
        SHOP.format(site=host.url, integrity=integrity["dist/widget.js"])
    )
    with serving(tmp_path) as shop:
        context, asked = recording(browser)
        page = context.new_page()
        page.goto(shop)
        assert "42" in ask(page, "What is 17 + 25?")
        hosts = {urlsplit(address).netloc for address in asked if address.startswith("http")}
        assert hosts == {urlsplit(shop).netloc, urlsplit(host.url).netloc}
        assert page.evaluate("violations") == []
        context.close()
