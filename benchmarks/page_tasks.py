"""How long the chat page keeps the browser's main thread busy, in Chromium with a scripted engine.

`python -m benchmarks.page_tasks` prints JSON: tasks of the page's thread in ms of CPU time, and its
share of it, for answers of 40 kB whose last part streams at 100 tokens/s, a start with 500 conversations, and
opening one of 200 messages.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from starlette.staticfiles import StaticFiles

from benchmarks.first_visit import serving
from tests.page.conftest import POCKET, build_page
from web.browser import chromium

ANSWER_BYTES = 40_000
STREAMED_BYTES = 4_000
TOKEN_BYTES = 4
TOKENS_PER_S = 100
CHATS = 500
MESSAGES = 200
LONG_TASK_MS = 50
TASKS = "disabled-by-default-devtools.timeline"
SENTENCE = "Some **words** that `say` little, with a [link](https://example.com) in between. "
CODE = "for n in range(3):\n    print(n)  # again\n"
SHAPES = {
    "mixed": f"## Title\n\n{SENTENCE * 3}\n\n- one\n- two\n- three\n\n```python\n{CODE * 4}```\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n",
    "one paragraph": SENTENCE,
    "one list": f"- {SENTENCE}\n",
    "one table": "| some words | 12 | **bold** |\n",
    "one code block": CODE,
}
HEADS = {"one table": "| a | b | c |\n|---|---|---|\n", "one code block": "```python\n"}
STREAM = """async ([text, size, interval]) => {
  for (let at = 0; at < text.length; at += size) {
    fake.engine.push(text.slice(at, at + size));
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}"""
SHOWN = "() => document.querySelector('article.assistant .body').textContent.length > 10000"
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
FILL = """async ([chats, messages]) => {
  const text = "Some **words**.\\n\\n- one\\n- two\\n\\n```js\\nconst a = 1;\\n```\\n\\n";
  const many = Array.from({ length: chats }, (_, at) => ({
    id: `many${at}`, title: `Conversation ${at}`, created: new Date(1e12 + at), updated: new Date(1e12 + at),
    messages: Array.from({ length: at === 0 ? messages : 2 }, (_, n) => ({
      id: `many${at}-${n}`, parent: n ? `many${at}-${n - 1}` : null, role: n % 2 ? "assistant" : "user",
      content: n % 2 ? text.repeat(3) : `Question ${n}`, state: "stop", created: new Date(1e12 + n) })),
  }));
  const archive = { format: "mlc-edge-conversations", version: 2, conversations: many };
  const file = new File([JSON.stringify(archive)], "a.json");
  const input = document.querySelector("#import-file");
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  while (document.querySelectorAll("#conversations li a").length < chats)
    await new Promise((resolve) => setTimeout(resolve, 20));
}"""


@contextmanager
def scripted_page() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_page(folder)
        (folder / "bundles").mkdir()
        (folder / "bundles/index.json").write_text(json.dumps({"bundles": [POCKET]}))
        with serving(StaticFiles(directory=folder, html=True)) as port:
            yield port


@contextmanager
def opened(browser: Browser, port: int) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        page.add_init_script("window.script = { manualAnswer: true };")
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_function("() => document.documentElement.dataset.engine === 'ready'")
        yield page
    finally:
        context.close()


def main_thread(browser: Browser, page: Page, doing: Callable[[], None]) -> dict[str, Any]:
    """What the page's thread computes meanwhile: in CPU time, which other programs don't lengthen."""
    browser.start_tracing(page=page, categories=["devtools.timeline", TASKS])
    start = time.monotonic()
    doing()
    page.evaluate(FRAMES)
    elapsed = time.monotonic() - start
    events = json.loads(browser.stop_tracing())["traceEvents"]
    # The page's own thread is the one that draws frames of it.
    layouts = [(e["pid"], e["tid"]) for e in events if e["name"] == "Layout"]
    thread = max(set(layouts), key=layouts.count)
    inside = [e for e in events if (e["pid"], e["tid"]) == thread]
    tasks = sorted(e.get("tdur", 0) / 1000 for e in inside if e["name"] == "RunTask")
    return {
        "over_50_ms": [round(task) for task in tasks if task > LONG_TASK_MS],
        "longest": round(tasks[-1], 1),
        "share": round(sum(tasks) / 1000 / elapsed, 3),
    }


def stream(browser: Browser, page: Page, shape: str) -> dict[str, Any]:
    piece = SHAPES[shape]
    text = (HEADS.get(shape, "") + piece * (ANSWER_BYTES // len(piece) + 1))[:ANSWER_BYTES]
    page.locator("#message").fill("Write.")
    page.locator("#send").click()
    page.evaluate("text => fake.engine.push(text)", text[:-STREAMED_BYTES])
    page.wait_for_function(SHOWN)
    page.evaluate(FRAMES)
    rest = [text[-STREAMED_BYTES:], TOKEN_BYTES, 1000 / TOKENS_PER_S]
    return main_thread(browser, page, lambda: page.evaluate(STREAM, rest))


def open_many(browser: Browser, page: Page) -> dict[str, Any]:
    """Lists 500 conversations, and opens one of 200 messages."""
    page.evaluate(FILL, [CHATS, MESSAGES])

    def reload() -> None:
        page.reload()
        page.wait_for_selector("#conversations li")

    def open_long() -> None:
        page.evaluate("() => { location.hash = 'many0'; }")
        page.wait_for_selector("article")

    return {
        "start with 500 conversations": main_thread(browser, page, reload),
        "open 200 messages": main_thread(browser, page, open_long),
    }


def main() -> None:
    result: dict[str, Any] = {}
    with scripted_page() as port, chromium(software=True, webgpu=False) as browser:
        for shape in SHAPES:
            with opened(browser, port) as page:
                result[shape] = stream(browser, page, shape)
        with opened(browser, port) as page:
            result |= open_many(browser, page)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
