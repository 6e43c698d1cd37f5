"""The README's pictures of the chat page and its recording, with real answers, in Chromium.

`python -m benchmarks.pictures BUNDLE [--into docs]` writes chat-desktop.png, chat-phone.png and chat.gif.
"""

import argparse
import base64
import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, CDPSession, Page, ViewportSize, expect

from benchmarks.first_visit import serving
from web.browser import chromium
from web.host import HostConfig, create_app

QUESTIONS = (
    "My name is Ada.",
    "What is 17 + 25?",
    "Tell me a story about a cat.",
    "What is my name?",
)
PATIENCE_MS = 240_000
# Frames that are closer show nothing that an eye could read.
FRAME_S = 0.1
LONGEST_S = 1.6
COLOURS = 128
HURRY = 4
SCREEN: ViewportSize = {"width": 900, "height": 600}


@dataclass
class Recording:
    """What the page showed, and when in seconds."""

    frames: list[tuple[float, bytes]] = field(default_factory=list)
    hurried: list[tuple[float, float]] = field(default_factory=list)

    def add(self, session: CDPSession, frame: dict[str, Any]) -> None:
        session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})
        image = base64.b64decode(frame["data"])
        self.frames.append((frame["metadata"]["timestamp"], image))

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """What happens meanwhile is shown faster."""
        start = time.time()
        yield
        self.hurried.append((start, time.time()))

    def save(self, path: Path) -> None:
        kept: list[tuple[float, bytes]] = []
        for at, image in self._timed():
            if kept and at - kept[-1][0] < FRAME_S:
                # The later one shows more.
                kept[-1] = (kept[-1][0], image)
            else:
                kept.append((at, image))
        shown = [min(later - at, LONGEST_S) for (at, _), (later, _) in pairwise(kept)]
        images = [Image.open(io.BytesIO(image)).convert("RGB") for _, image in kept]
        palette = _palette(images)
        # Without dithering, what doesn't change is the same from frame to frame.
        flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
        flat[0].save(
            path,
            save_all=True,
            append_images=flat[1:],
            duration=[round(1000 * seconds) for seconds in [*shown, 2 * LONGEST_S]],
            loop=0,
            optimize=True,
        )

    def _timed(self) -> Iterator[tuple[float, bytes]]:
        for at, image in self.frames:
            saved = sum(max(0.0, min(at, end) - start) for start, end in self.hurried)
            yield at - saved * (1 - 1 / HURRY), image


def _palette(images: list[Image.Image]) -> Image.Image:
    samples = images[:: max(1, len(images) // 8)]
    width, height = samples[0].size
    together = Image.new("RGB", (width, height * len(samples)))
    for row, sample in enumerate(samples):
        together.paste(sample, (0, row * height))
    return together.quantize(COLOURS)


@contextmanager
def recorded(page: Page, path: Path) -> Iterator[Recording]:
    recording = Recording()
    session = page.context.new_cdp_session(page)
    session.on("Page.screencastFrame", lambda frame: recording.add(session, frame))
    session.send("Page.startScreencast", {"format": "png"})
    yield recording
    session.send("Page.stopScreencast")
    recording.save(path)


def until_ready(page: Page) -> None:
    ready = re.compile("ready|error")
    expect(page.locator("html")).to_have_attribute("data-engine", ready, timeout=PATIENCE_MS)
    expect(page.locator("html"), page.locator("#model-card").inner_text()).to_have_attribute(
        "data-engine", "ready"
    )


def start(page: Page) -> None:
    """Waits for the model, and puts away what is said of the machine that takes the pictures."""
    until_ready(page)
    for dismiss in page.get_by_role("button", name="Dismiss").all():
        dismiss.click()
    page.locator("#message").focus()


def ask(page: Page, text: str) -> None:
    complete = page.get_by_role("button", name="Copy answer")
    earlier = complete.count()
    page.locator("#message").press_sequentially(text, delay=40)
    page.keyboard.press("Enter")
    expect(complete).to_have_count(earlier + 1, timeout=PATIENCE_MS)
    until_ready(page)


def picture(browser: Browser, url: str, path: Path, **context: Any) -> None:
    page = browser.new_context(**context).new_page()
    page.goto(url)
    start(page)
    for question in QUESTIONS:
        ask(page, question)
    page.screenshot(path=path)
    page.context.close()


def record(browser: Browser, url: str, path: Path) -> None:
    """Ask, stop, branch, go offline."""
    page = browser.new_context(viewport=SCREEN, color_scheme="light").new_page()
    page.goto(url)
    start(page)
    expect(page.locator("#offline-state")).to_contain_text("offline use", timeout=PATIENCE_MS)
    with recorded(page, path) as recording:
        page.locator("#message").press_sequentially("Tell me a story about a cat.", delay=60)
        page.keyboard.press("Enter")
        answer = page.get_by_role("article", name="Assistant").last
        expect(answer).to_contain_text(re.compile(r"\w+ \w+ \w+ \w+ \w+ "), timeout=PATIENCE_MS)
        page.get_by_role("button", name="Stop").click()
        until_ready(page)
        pause(page)
        page.get_by_role("button", name="Regenerate").click()
        version = page.get_by_role("group", name="Version")
        expect(version).to_have_text("2/2", timeout=PATIENCE_MS)
        until_ready(page)
        pause(page)
        page.get_by_role("button", name="Earlier version").click()
        pause(page)
        page.get_by_role("button", name="Later version").click()
        pause(page)
        page.context.set_offline(True)
        expect(page.locator("#offline-state")).to_contain_text("are offline")
        pause(page)
        with recording.hurrying():
            page.reload()
            start(page)
        pause(page)
        ask(page, "What is 17 + 25?")
        pause(page)
    page.context.close()


def pause(page: Page) -> None:
    """For those who look."""
    page.wait_for_timeout(1000 * LONGEST_S)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--into", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    into = arguments.into
    app = create_app(HostConfig(bundles=(arguments.bundle,)))
    with serving(app) as port, chromium(software=True) as browser:
        url = f"http://localhost:{port}/"
        record(browser, url, into / "chat.gif")
        desktop = {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"}
        picture(browser, url, into / "chat-desktop.png", **desktop)
        phone = {
            "viewport": {"width": 390, "height": 844},
            "device_scale_factor": 2,
            "is_mobile": True,
            "has_touch": True,
        }
        picture(browser, url, into / "chat-phone.png", color_scheme="dark", **phone)


if __name__ == "__main__":
    main()
