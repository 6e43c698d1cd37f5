"""Firefox, headless, driven over Marionette, its own protocol, by Mozilla's client."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from marionette_driver.by import By
from marionette_driver.keys import Keys
from marionette_driver.marionette import Marionette

from tests.browsers.browser import PATIENCE_S, RealBrowser

# The console has what went wrong in all processes. Warnings are of the browser's own style.
READ_CONSOLE = """
const { nsIScriptError } = Ci;
return Services.console.getMessageArray()
  .filter((message) => message instanceof nsIScriptError)
  .filter(({ flags, category }) => !(flags & nsIScriptError.warningFlag) || /CSP/.test(category))
  .filter(({ sourceName }) => /^(https?|blob):/.test(sourceName))
  .map(String);
"""
# A window is at least 500 pixels wide, what is in it isn't.
RESIZE = """
const [width, height] = arguments;
const { style } = gBrowser.selectedBrowser;
style.width = style.minWidth = style.maxWidth = `${width}px`;
style.height = style.minHeight = style.maxHeight = `${height}px`;
"""


class Firefox(RealBrowser):
    def __init__(self, marionette: Marionette) -> None:
        self.marionette = marionette
        marionette.timeout.script = PATIENCE_S

    def navigate(self, url: str) -> None:
        self._privileged("Services.console.reset()")
        self.marionette.navigate(url)

    def _click(self, selector: str) -> None:
        self.marionette.find_element(By.CSS_SELECTOR, selector).click()

    def _type(self, selector: str, text: str) -> None:
        self.marionette.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def _press(self, selector: str, key: str) -> None:
        self.marionette.find_element(By.CSS_SELECTOR, selector).send_keys(
            getattr(Keys, key.upper())
        )

    def resize(self, width: int, height: int) -> None:
        self.marionette.set_window_rect(width=max(width, 500), height=height + 200)
        self._privileged(RESIZE, width, height)
        self.wait_for("(size) => `${[innerWidth, innerHeight]}` === `${size}`", [width, height])

    def screenshot(self) -> bytes:
        return base64.b64decode(self.marionette.screenshot(full=False))

    def problems(self) -> list[str]:
        messages: list[str] = self._privileged(READ_CONSOLE)
        return messages

    def evaluate(self, body: str) -> Any:
        # Without a sandbox of its own: in the page's.
        return self.marionette.execute_async_script(body, sandbox=None)

    def close(self) -> None:
        self.marionette.quit()
        self.marionette.cleanup()

    def _privileged(self, script: str, *arguments: Any) -> Any:
        with self.marionette.using_context("chrome"):
            return self.marionette.execute_script(script, script_args=arguments)


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A window with a profile of its own; `folder` gets its log."""
    marionette = Marionette(
        bin="/usr/bin/firefox-esr", headless=True, gecko_log=str(folder / "gecko.log")
    )
    marionette.start_session()
    browser = Firefox(marionette)
    try:
        yield browser
    finally:
        browser.close()
