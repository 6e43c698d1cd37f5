"""Starts a Chromium with WebGPU, for measurements and tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlc_edge.errors import ToolchainError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
QUIET_FLAGS = (
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WEBGPU_FLAGS = ("--enable-unsafe-webgpu", "--enable-features=Vulkan")
SOFTWARE_WEBGPU_FLAGS = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


def find_chromium() -> str:
    """Path of an installed Chromium or Chrome; `CHROMIUM` in the environment wins.

    Raises ToolchainError when there is none.
    """
    wanted = os.environ.get("CHROMIUM")
    for name in (wanted,) if wanted else EXECUTABLES:
        if path := shutil.which(name):
            return path
    raise ToolchainError(
        f"no browser found (looked for {wanted or ', '.join(EXECUTABLES)}). Install one, "
        "for example `apt-get install chromium`, or name it in the variable CHROMIUM."
    )


def chromium_flags(*, software: bool, webgpu: bool = True) -> list[str]:
    """Command-line flags; `software` asks for SwiftShader in place of the machine's GPU."""
    flags = list(QUIET_FLAGS)
    if webgpu:
        flags += SOFTWARE_WEBGPU_FLAGS if software else WEBGPU_FLAGS
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")
    return flags


@contextmanager
def chromium(*, software: bool, webgpu: bool = True) -> Iterator["Browser"]:
    """A headless Chromium that ends with the block. Raises ToolchainError if none starts."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ToolchainError(
            "driving a browser needs Playwright: run `pip install 'mlc-edge[bench]'`."
        ) from error
    executable = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=chromium_flags(software=software, webgpu=webgpu)
        )
        try:
            yield browser
        finally:
            browser.close()
