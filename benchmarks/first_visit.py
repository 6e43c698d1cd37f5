"""How soon the chat page can be used on a first visit, over a slow network, in Chromium.

`python -m benchmarks.first_visit BUNDLE [--rounds 5] [--mbit 1.5] [--round-trip-ms 40]` prints JSON:
medians in ms since the address was opened, and bytes as they are transferred. "takes_message" is when the
page takes a message that is sent: one is tried at every frame. "plain" is a host that compresses nothing.
"""

import argparse
import json
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.slow_link import slow_link
from web.browser import chromium
from web.host import HostConfig, create_app
from web.server import bind

RECORD = """
globalThis.visit = { longTasks: [] };
new PerformanceObserver((list) => {
  for (const { startTime, duration } of list.getEntries()) visit.longTasks.push({ startTime, duration });
}).observe({ type: "longtask", buffered: true });
const send = () => {
  const box = document.querySelector("#message");
  if (document.querySelector("article")) {
    visit.takesMessage = performance.now();
    return;
  }
  if (box) {
    visit.takesTyping ??= performance.now();
    box.value = "Hello";
    box.form.requestSubmit();
  }
  requestAnimationFrame(send);
};
requestAnimationFrame(send);
"""
RESULT = """() => ({
  ...visit,
  firstPaint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
  files: performance.getEntriesByType("resource").map((file) => ({
    name: new URL(file.name).pathname,
    bytes: file.encodedBodySize,
    start: file.startTime,
    end: file.responseEnd,
  })),
})"""
TAKEN = "() => globalThis.visit?.takesMessage"


class _Uncompressed:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [item for item in scope["headers"] if item[0] != b"accept-encoding"]
        await self.app({**scope, "headers": headers}, receive, send)


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def visit(browser: Browser, port: int) -> dict[str, Any]:
    """In a new profile: nothing is cached."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.add_init_script(RECORD)
        page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        page.wait_for_function(TAKEN)
        result: dict[str, Any] = page.evaluate(RESULT)
        return result
    finally:
        context.close()


def summary(visits: list[dict[str, Any]]) -> dict[str, Any]:
    def median(name: str) -> float:
        return round(statistics.median(each[name] for each in visits))

    tasks = [task["duration"] for each in visits for task in each["longTasks"]]
    return {
        "first_contentful_paint_ms": median("firstPaint"),
        "takes_typing_ms": median("takesTyping"),
        "takes_message_ms": median("takesMessage"),
        "script_bytes": sum(f["bytes"] for f in visits[0]["files"] if f["name"].endswith(".js")),
        "longest_task_ms": max(tasks, default=0),
        "files": visits[0]["files"],
    }


def measure(bundle: Path, rounds: int, mbit: float, round_trip_ms: float) -> dict[str, Any]:
    app = create_app(HostConfig(bundles=(bundle,)))
    hosts: dict[str, ASGIApp] = {"ours": app, "plain": _Uncompressed(app)}
    result = {}
    with chromium(software=True, webgpu=False) as browser:
        for name, host in hosts.items():
            with (
                serving(host) as port,
                slow_link(port, mbit_per_s=mbit, round_trip_ms=round_trip_ms) as slow,
            ):
                # The host compresses each file once, and the browser starts processes for the first page.
                visit(browser, port)
                result[name] = summary([visit(browser, slow) for _ in range(rounds)])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mbit", type=float, default=1.5)
    parser.add_argument("--round-trip-ms", type=float, default=40)
    arguments = parser.parse_args()
    result = measure(arguments.bundle, arguments.rounds, arguments.mbit, arguments.round_trip_ms)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
