"""WebKitGTK, the engine of Safari, driven over WebDriver by Selenium."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.client_config import ClientConfig
from selenium.webdriver.remote.remote_connection import RemoteConnection
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service
from urllib3.exceptions import HTTPError

from tests.browsers.browser import PATIENCE_S, TIMEOUT_S, RealBrowser

HERE = Path(__file__).parent


class WebKit(RealBrowser):
    """A window with its profile in `folder`, on the screen `display`."""

    def __init__(self, folder: Path, display: str) -> None:
        self.folder, self.display = folder, display
        self._start()

    def _start(self) -> None:
        options = Options()
        options.binary_location = str(HERE / "webkit_shell.py")
        environment = {
            **os.environ,
            "DISPLAY": self.display,
            "XDG_RUNTIME_DIR": str(self.folder),
            "BROWSER_INIT_SCRIPT": str(HERE / "recorder.js"),
            "BROWSER_PROFILE": str(self.folder / "profile"),
        }
        log = str(self.folder / "driver.log")
        self.service = Service("/usr/bin/WebKitWebDriver", log_output=log, env=environment)
        self.service.start()
        # Selenium's own classes wait for an answer without end.
        config = ClientConfig(
            remote_server_addr=self.service.service_url, timeout=PATIENCE_S + TIMEOUT_S
        )
        connection = RemoteConnection(client_config=config)
        self.driver = webdriver.Remote(command_executor=connection, options=options)
        self.driver.set_script_timeout(PATIENCE_S)
        self.driver.set_page_load_timeout(TIMEOUT_S)

    def restart(self) -> None:
        self.close()
        self._start()

    def navigate(self, url: str) -> None:
        try:
            self.driver.get(url)
        except TimeoutException:
            # At times, on a busy machine, it never loads a page; another window of the profile does.
            self.restart()
            self.driver.get(url)

    def _click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def _type(self, selector: str, text: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def _press(self, selector: str, key: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(getattr(Keys, key.upper()))

    def resize(self, width: int, height: int) -> None:
        self.driver.set_window_size(width, height)
        self.wait_for("(size) => `${[innerWidth, innerHeight]}` === `${size}`", [width, height])

    def screenshot(self) -> bytes:
        return self.driver.get_screenshot_as_png()

    def problems(self) -> list[str]:
        recorded: list[str] = self.driver.execute_script("return window.recordedProblems")
        return recorded

    def evaluate(self, body: str) -> Any:
        return self.driver.execute_async_script(body)

    def close(self) -> None:
        with suppress(WebDriverException, HTTPError):
            self.driver.quit()
        self.service.stop()


@contextmanager
def display() -> Iterator[str]:
    """A screen that nobody sees; its name for DISPLAY."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1600x1200x24"]
    process = subprocess.Popen(
        [*command, "-nolisten", "tcp"], pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    try:
        with open(reader) as numbers:
            yield f":{numbers.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def webkit(folder: Path) -> Iterator[WebKit]:
    """A window with its profile in `folder`."""
    with display() as name:
        browser = WebKit(folder, name)
        try:
            yield browser
        finally:
            browser.close()
