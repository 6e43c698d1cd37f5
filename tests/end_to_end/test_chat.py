"""A person opens the page and talks to the embedded model, on WebGPU, online and off."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from tests.browsers.chat import KEPT
from tests.end_to_end.conftest import Host

SLOW_GPU_MS = 240_000
# In the engine's worker: after some tokens the GPU gives nothing until `goOn()`.
HOLD_GPU = """() => {
  const { mapAsync } = GPUBuffer.prototype;
  const goesOn = new Promise((resolve) => { globalThis.goOn = resolve; });
  let reads = 0;
  GPUBuffer.prototype.mapAsync = async function (...range) {
    reads += 1;
    if (reads > 20) await goesOn;
    return mapAsync.apply(this, range);
  };
}"""


def open_chat(browser: Browser, url: str, before: str = "") -> Page:
    """`before` is JavaScript that runs before the page's own."""
    page = browser.new_context().new_page()
    page.add_init_script(before or ";")
    page.goto(url)
    wait_until_ready(page)
    return page


def wait_until_ready(page: Page) -> None:
    expect(page.locator("html")).to_have_attribute("data-engine", "ready", timeout=SLOW_GPU_MS)


@contextmanager
def portal(url: str) -> Iterator[list[str]]:
    """Somebody in the host's place, who answers everything with HTML; gives what was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>Accept our terms</h1>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    address = ("127.0.0.1", urlsplit(url).port or 80)
    with http.server.ThreadingHTTPServer(address, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def ask(page: Page, text: str) -> str:
    """Send `text`, wait for the whole answer, return what the page shows of it."""
    answers = page.get_by_role("article", name="Assistant")
    before = answers.count()
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()
    expect(answers).to_have_count(before + 1)
    expect(answers.last).to_contain_text("to first token", timeout=SLOW_GPU_MS)
    return answers.last.inner_text()


def test_arithmetic_and_memory_then_offline(browser: Browser, start_host: Callable[[], Host]):
    host = start_host()
    page = open_chat(browser, host.url)
    violations: list[str] = []
    page.on("console", lambda m: violations.append(m.text) if "Content Security" in m.text else 0)

    assert "42" in ask(page, "What is 17 + 25?")
    ask(page, "My name is Ada.")
    assert "Ada" in ask(page, "What is my name?")
    assert not violations

    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    host.stop()
    with portal(host.url) as asked:
        page.reload()
        wait_until_ready(page)
    assert "/bundles/index.json" in asked
    page.reload()
    wait_until_ready(page)
    expect(page.get_by_role("log")).to_contain_text("17 + 25")
    assert "43" in ask(page, "What is 31 + 12?")
    page.context.close()


def test_stop_keeps_what_was_written(browser: Browser, start_host: Callable[[], Host]):
    # Playwright shows a page's own workers alone.
    page = open_chat(browser, start_host().url, "delete globalThis.SharedWorker;")
    (worker,) = page.workers
    # Its stories are short: the answer must not end before a busy machine comes to click.
    worker.evaluate(HOLD_GPU)
    page.get_by_role("textbox", name="Message").fill("Tell me a story about a cat.")
    page.get_by_role("button", name="Send").click()
    answer = page.get_by_role("article", name="Assistant").last
    expect(answer).to_contain_text("cat", timeout=SLOW_GPU_MS)
    page.get_by_role("button", name="Stop").click()
    worker.evaluate("() => goOn()")
    wait_until_ready(page)
    expect(answer).to_contain_text("cat")
    expect(answer).to_contain_text("Stopped.")
    assert ask(page, "What is the capital of France?")
    page.context.close()


def test_an_answer_that_reached_its_length_goes_on_where_it_ended(
    browser: Browser, start_host: Callable[[], Host]
):
    page = open_chat(browser, start_host().url)
    page.get_by_role("button", name="Settings", exact=True).click()
    page.locator("#setting-maxTokens").fill("3")
    page.locator("#setting-temperature").fill("0")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("textbox", name="Message", exact=True).fill("What is the capital of France?")
    page.get_by_role("textbox", name="Message", exact=True).press("Enter")
    answer = page.get_by_role("article", name="Assistant")
    text = ""
    while text != "The capital of France is Paris.":
        expect(answer.locator(".body")).not_to_have_text(text, timeout=SLOW_GPU_MS)
        expect(answer.get_by_role("button", name="Regenerate")).to_be_visible(timeout=SLOW_GPU_MS)
        text = answer.locator(".body").inner_text()
        assert "The capital of France is Paris.".startswith(text)
        if answer.get_by_role("button", name="Continue").is_visible():
            page.wait_for_function(KEPT)
            answer.get_by_role("button", name="Continue").click()
