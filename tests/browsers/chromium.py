"""Chromium, headless, driven by Playwright. Without WebGPU, as the other two are here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.browsers.browser import TIMEOUT_S, RealBrowser
from web.browser import chromium

HERE = Path(__file__).parent


class Chromium(RealBrowser):
    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(TIMEOUT_S * 1000)
        page.add_init_script(path=HERE / "recorder.js")

    def navigate(self, url: str) -> None:
        self.page.goto(url)

    def _click(self, selector: str) -> None:
        self.page.locator(selector).first.click()

    def _type(self, selector: str, text: str) -> None:
        self.page.locator(selector).first.press_sequentially(text)

    def _press(self, selector: str, key: str) -> None:
        self.page.locator(selector).first.press(key)

    def resize(self, width: int, height: int) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    def screenshot(self) -> bytes:
        return self.page.screenshot()

    def problems(self) -> list[str]:
        recorded: list[str] = self.page.evaluate("recordedProblems")
        return recorded

    def evaluate(self, body: str) -> Any:
        return self.page.evaluate(
            f"() => new Promise((resolve) => (function () {{ {body} }})(resolve))"
        )

    def close(self) -> None:
        self.page.context.close()


@contextmanager
def headless_chromium(folder: Path) -> Iterator[Chromium]:
    with chromium(software=True, webgpu=False) as browser:
        window = Chromium(browser.new_context().new_page())
        try:
            yield window
        finally:
            window.close()
