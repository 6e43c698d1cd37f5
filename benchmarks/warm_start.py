"""How fast stored weights are read in Chromium: by the engine's store, and through a service worker.

The way through a service worker is what earlier versions did: parts of 1 MiB, read at once, hashed at each
load, answered as a Response. The store reads parts of 8 MiB straight; they were hashed when they were stored.
`python -m benchmarks.warm_start [--rounds 3] [--mib 256] [--big-gib 4.5]` prints JSON with medians in MB/s;
`--big-gib` reads a bundle of that size by the store (an 8B model in 4 bits has 4.5 GiB), in turn with half a
GiB of it through the service worker. Everything is random bytes; the browser's profile is deleted at the end.
The operating system may hold it in memory.
"""

import argparse
import functools
import hashlib
import http.server
import json
import random
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from web.browser import chromium_flags, find_chromium

ROOT = Path(__file__).parent.parent
MIB = 1 << 20
SHARD_BYTES = 32 * MIB
SAMPLE_SHARDS = 16
EMBEDDING_BYTES = 262 * MIB
PAGE = b"""<!doctype html><link rel="icon" href="data:,"><script>
navigator.serviceWorker.register("worker.js");
globalThis.ask = async (message) => {
  globalThis.worker ??= new Worker("worker.js");
  const { port1, port2 } = new MessageChannel();
  worker.postMessage(message, [port2]);
  const answer = await new Promise((resolve) => { port1.onmessage = ({ data }) => resolve(data); });
  if (answer.error) throw new Error(answer.error);
  return answer;
};
</script>"""
CONTROLLED = "() => navigator.serviceWorker.controller !== null"


def content(name: str, size: int) -> Iterator[bytes]:
    """Bytes that differ from file to file, made as they are sent."""
    block = random.Random(0).randbytes(MIB)
    yield name.encode().ljust(64, b"\0")
    left = size - 64
    while left > 0:
        yield block[:left]
        left -= len(block)


def describe(name: str, size: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    for piece in content(name, size):
        digest.update(piece)
    return {"url": f"{name}-{size}.bin", "bytes": size, "sha256": digest.hexdigest()}


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, worker: bytes) -> None:
        self.worker = worker
        super().__init__(*arguments)

    def do_GET(self) -> None:
        name, _, size = self.path.split("?")[0].strip("/").removesuffix(".bin").rpartition("-")
        if name:
            self._send("application/octet-stream", int(size), content(name, int(size)))
        elif self.path == "/worker.js":
            self._send("text/javascript", len(self.worker), iter([self.worker]))
        else:
            self._send("text/html", len(PAGE), iter([PAGE]))

    def _send(self, kind: str, size: int, body: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(size))
        self.end_headers()
        for piece in body:
            self.wfile.write(piece)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    tool = [str(ROOT / "node_modules/.bin/esbuild"), str(Path(__file__).with_suffix(".ts"))]
    options = ["--bundle", "--format=iife", "--target=es2022"]
    worker = subprocess.run([*tool, *options], check=True, capture_output=True, cwd=ROOT).stdout
    handler = functools.partial(_Handler, worker=worker)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def controlled_page(url: str) -> Iterator[Page]:
    """In a profile on disk: private windows keep storage in memory."""
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        flags = chromium_flags(software=True, webgpu=False)
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=find_chromium(), args=flags
        )
        try:
            page = context.new_page()
            page.goto(url)
            page.wait_for_function(CONTROLLED)
            yield page
        finally:
            context.close()


def rate(page: Page, call: str, files: list[dict[str, Any]]) -> float:
    """MB/s."""
    answer = page.evaluate("(message) => ask(message)", [call, files])
    return sum(file["bytes"] for file in files) / answer["ms"] / 1000


def compare(page: Page, rounds: int, files: list[dict[str, Any]], sample: slice) -> dict[str, Any]:
    """Both ways in turn; the old one with some of the files."""
    stored = rate(page, "fill", files)
    page.evaluate("(message) => ask(message)", ["fillOld", files[sample]])
    rates: dict[str, list[float]] = {"store": [], "service_worker": []}
    for _ in range(rounds):
        rates["store"].append(rate(page, "read", files))
        rates["service_worker"].append(rate(page, "readOld", files[sample]))
    medians = {way: statistics.median(measured) for way, measured in rates.items()}
    size = sum(file["bytes"] for file in files)
    return {
        "bytes": size,
        "download_and_store": stored,
        "rates": rates,
        "medians": medians,
        "ratio": medians["store"] / medians["service_worker"],
        "seconds": {way: size / median / 1e6 for way, median in medians.items()},
    }


def measure(rounds: int, mib: int, big_gib: float) -> dict[str, Any]:
    shards = [SHARD_BYTES] * max(1, mib * MIB // SHARD_BYTES)
    # An embedding in a file of its own, and shards as MLC writes them.
    count = max(0, int((big_gib * 1024 * MIB - EMBEDDING_BYTES) // SHARD_BYTES))
    big = [EMBEDDING_BYTES, *[SHARD_BYTES] * count]
    with serving() as url, controlled_page(url) as page:

        def files(name: str, sizes: list[int]) -> list[dict[str, Any]]:
            described = (describe(f"{name}{i}", size) for i, size in enumerate(sizes))
            return [{**file, "url": url + file["url"]} for file in described]

        result = {"small": compare(page, rounds, files("shard", shards), slice(None))}
        if big_gib > 0:
            result["big"] = compare(page, rounds, files("big", big), slice(1, SAMPLE_SHARDS + 1))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--big-gib", type=float, default=0)
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.mib, arguments.big_gib)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
