"""axe finds nothing wrong with any state, and nothing scrolls sideways.

With MLC_EDGE_SHOTS=FOLDER, pictures of them all are written there instead, at three widths, light and dark.
"""

import functools
import os
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page

from tests.page.conftest import ROOT, OpenChat
from tests.page.states import AXE_VIOLATIONS, STATES, Reach

AXE = (ROOT / "node_modules/axe-core/axe.min.js").read_text()
SHOTS = os.environ.get("MLC_EDGE_SHOTS")
HEIGHTS = {360: 740, 768: 1024, 1440: 900}
SIDEWAYS = """() =>
  [...document.querySelectorAll("body, .scroller, .sidebar, .conversations, dialog[open]")]
    .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth)
    .map(({ className, id }) => `${id} ${className}`)"""
# Toasts and drawers move; what is loading or waited for does so for ever.
STILL = """() => document.getAnimations().every(({ playState, effect }) =>
  playState !== "running" || effect.getTiming().iterations === Infinity)"""


WIDTHS = list(HEIGHTS) if SHOTS else [360, 1440]
Scheme = Literal["light", "dark"]


def photograph(page: Page, name: str) -> None:
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=f"{SHOTS}/{name}-{scheme}.png")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("reach", STATES, ids=lambda reach: reach.__name__)
def test_nothing_is_wrong_with_it(open_chat: OpenChat, reach: Reach, width: int):
    viewport = {"width": width, "height": HEIGHTS[width]}
    scheme = "dark" if width == 360 else "light"
    page = reach(functools.partial(open_chat, viewport=viewport, color_scheme=scheme)).page
    page.wait_for_function(STILL)
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        photograph(page, f"{reach.__name__}-{width}")
        return
    assert page.evaluate(SIDEWAYS) == []
    page.evaluate(AXE)
    assert page.evaluate(AXE_VIOLATIONS) == []
