"""Time on the CPU that a token takes in the browser's engine, at the shape of a 1B model.

`python -m benchmarks.token_script [--shape 1b] [--rounds 5] [--gpu] [--profile]` prints JSON with a token's
milliseconds of the thread that runs the engine: TVM and its wasm, WebGPU's calls, text, and what the
browser does there for them. Kernels are compiled without their work: the device's own time isn't in it.
`--profile` adds the functions that take most of it.
"""

import argparse
import json
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

from benchmarks.checkpoints import SHAPES, Shape
from benchmarks.dispatch import main_thread_ms
from benchmarks.step_table import compile_library
from tests.browser import bundle_script, serving
from web.browser import chromium

TOKENS = 200
ASKED: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 40},
    {"temperature": 0.7, "top_p": 0.9, "logprobs": True, "top_logprobs": 5},
    {"temperature": 0.7, "frequency_penalty": 0.5},
]
PAGE = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="page.js"></script>'
ANSWER = "([params, tokens]) => answer(params, tokens)"
PROFILED = 25


def run(shape: Shape, rounds: int, *, software: bool, profile: bool) -> dict[str, Any]:
    """For each of ASKED the median, and what takes it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_library(shape, folder / "library.wasm")
        bundle_script(Path(__file__).with_suffix(".ts"), folder / "page.js")
        (folder / "page.html").write_text(PAGE)
        with serving(folder) as url, chromium(software=software) as browser:
            page = browser.new_page()
            page.set_default_timeout(300_000)
            page.goto(f"{url}page.html")
            page.wait_for_function("globalThis.ready === true")
            page.evaluate("(size) => prepare('library.wasm', size)", shape.vocab_size)
            turns = [[token_ms(browser, page, asked) for asked in ASKED] for _ in range(rounds + 1)]
            # The first round is for the browser's compiler.
            times = zip(ASKED, zip(*turns[1:], strict=True), strict=True)
            found: dict[str, Any] = {"browser": browser.version, "rounds": rounds}
            found["tokens"] = [{**asked, **summary(of)} for asked, of in times]
            if profile:
                found["profile_ms"] = self_times(page, page.context.new_cdp_session(page))
            return found


def summary(times: tuple[float, ...]) -> dict[str, float]:
    """Where others use the processor, too, they slow down what it does: the least has the least of that."""
    return {"median_ms": round(statistics.median(times), 3), "least_ms": round(min(times), 3)}


def token_ms(browser: Browser, page: Page, asked: dict[str, Any]) -> float:
    """Of one answer, by token."""
    answer = [asked, TOKENS]
    return main_thread_ms(browser, page, lambda: page.evaluate(ANSWER, answer)) / TOKENS


def self_times(page: Page, devtools: CDPSession) -> dict[str, float]:
    """By function, milliseconds a token that are its own, by the clock."""
    devtools.send("Profiler.enable")
    devtools.send("Profiler.setSamplingInterval", {"interval": 100})
    devtools.send("Profiler.start")
    page.evaluate(ANSWER, [ASKED[0], TOKENS])
    profile = devtools.send("Profiler.stop")["profile"]
    names = {}
    for node in profile["nodes"]:
        call = node["callFrame"]
        where = f":{call['lineNumber'] + 1}" if call["lineNumber"] >= 0 else ""
        names[node["id"]] = f"{call['functionName'] or 'anonymous'}{where}"
    times: Counter[str] = Counter()
    for node, delta in zip(profile["samples"], profile["timeDeltas"], strict=True):
        times[names[node]] += delta
    return {name: round(us / 1000 / TOKENS, 4) for name, us in times.most_common(PROFILED)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--rounds", type=int, default=5, help="answers of each kind")
    parser.add_argument("--gpu", action="store_true", help="this machine's GPU, not SwiftShader")
    parser.add_argument("--profile", action="store_true", help="also what takes it")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    found = run(shape, given.rounds, software=not given.gpu, profile=given.profile)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
