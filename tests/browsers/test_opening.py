"""The page opens in each engine, lists the models, and says what this browser can't do."""

from pathlib import Path

import pytest

from tests.browsers.browser import DESKTOP, PHONE, RealBrowser
from tests.browsers.conftest import OpenSite

NO_GPU = "Use a current Chrome, Edge, Safari or Firefox"
# What reaches out of the window, and isn't in something that scrolls or is drawn beside it.
OVERHANGING = """
() => [...document.querySelectorAll("main *")].filter((element) => {
  const { left, right, width } = element.getBoundingClientRect();
  return width > 1 && (left < -1 || right > innerWidth + 1);
}).map((element) => element.outerHTML.slice(0, 100))
"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_opens_and_says_that_there_is_no_webgpu(
    browser: RealBrowser, open_site: OpenSite, fake_bundle: Path, size: tuple[int, int]
):
    browser.resize(*size)
    browser.open(open_site(fake_bundle).url)
    card = browser.wait_for_text("#model-card", "Which browsers work")
    assert "GPU" in card.splitlines()[0]
    assert NO_GPU in card
    browser.click("#model-card summary")
    assert "graphics driver" in browser.wait_for_text("#model-card", "Safari 26")
    assert browser.run(OVERHANGING) == []
    assert browser.problems() == []


def test_models_are_listed(browser: RealBrowser, open_site: OpenSite, fake_bundle: Path):
    browser.open(open_site(fake_bundle).url)
    browser.wait_for_text("#model-state", "Problem")
    browser.click("#model-button")
    listed = browser.wait_for_text("#models", NO_GPU)
    assert listed.startswith("fake-q4f32_1")
    browser.wait_for_text("#models-storage", "on this device")
    assert browser.problems() == []


def test_a_host_without_models_says_so(browser: RealBrowser, open_site: OpenSite):
    browser.open(open_site().url)
    browser.wait_for_text("#model-card", "This host offers no models.")
    assert browser.problems() == []
