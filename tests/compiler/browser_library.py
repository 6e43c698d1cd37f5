"""A compiled library in Chromium, with WebGPU on SwiftShader: its functions take and give NumPy arrays."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from tests.browser import TIMEOUT_MS, bundle_script, serving
from web.browser import chromium

PAGE = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="page.js"></script>'


class BrowserLibrary:
    def __init__(self, page: Page, folder: Path) -> None:
        self._page = page
        self._folder = folder

    def call(self, name: str, *arrays: np.ndarray) -> list[np.ndarray]:
        """What a function gives; fails if the device has any error."""
        inputs = []
        for number, array in enumerate(arrays):
            (self._folder / f"{number}.bin").write_bytes(array.tobytes())
            inputs.append({"url": f"{number}.bin", "shape": array.shape, "dtype": str(array.dtype)})
        found = self._page.evaluate(
            "([name, inputs]) => callFunction(name, inputs)", [name, inputs]
        )
        assert found["errors"] == []
        return [
            np.frombuffer(base64.b64decode(result["base64"]), result["dtype"]).reshape(
                result["shape"]
            )
            for result in found["results"]
        ]


@contextmanager
def browser_library(library: Path, folder: Path) -> Iterator[BrowserLibrary]:
    """The library in a page; `folder` is an empty one for what the page fetches."""
    bundle_script(Path(__file__).with_name("library_page.mjs"), folder / "page.js")
    (folder / "index.html").write_text(PAGE)
    shutil.copyfile(library, folder / "library.wasm")
    with serving(folder) as url, chromium(software=True) as browser:
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(url)
        page.wait_for_function("globalThis.openLibrary !== undefined")
        page.evaluate("openLibrary('library.wasm')")
        yield BrowserLibrary(page, folder)
