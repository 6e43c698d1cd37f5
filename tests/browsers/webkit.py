"""WebKitGTK, the engine of Safari, driven over WebDriver by Selenium."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service

from tests.browsers.browser import TIMEOUT_S, RealBrowser

HERE = Path(__file__).parent


class WebKit(RealBrowser):
    def __init__(self, driver: webdriver.WebKitGTK) -> None:
        self.driver = driver
        driver.set_script_timeout(TIMEOUT_S)

    def navigate(self, url: str) -> None:
        self.driver.get(url)

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def type(self, selector: str, text: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def resize(self, width: int, height: int) -> None:
        self.driver.set_window_size(width, height)

    def screenshot(self) -> bytes:
        return self.driver.get_screenshot_as_png()

    def problems(self) -> list[str]:
        recorded: list[str] = self.driver.execute_script("return window.recordedProblems")
        return recorded

    def evaluate(self, body: str) -> Any:
        return self.driver.execute_async_script(body)

    def close(self) -> None:
        self.driver.quit()


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
    options = Options()
    options.binary_location = str(HERE / "webkit_shell.py")
    with display() as name:
        environment = {
            **os.environ,
            "DISPLAY": name,
            "XDG_RUNTIME_DIR": str(folder),
            "BROWSER_INIT_SCRIPT": str(HERE / "recorder.js"),
            "BROWSER_PROFILE": str(folder / "profile"),
        }
        service = Service(
            "/usr/bin/WebKitWebDriver",
            log_output=str(folder / "driver.log"),
            env=environment,
        )
        browser = WebKit(webdriver.WebKitGTK(options=options, service=service))
        try:
            yield browser
        finally:
            browser.close()
