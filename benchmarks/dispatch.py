"""Time on the CPU that a decode step's commands take in the browser: our dispatcher against tvmjs's.

Both run the same library, a Llama of 16 layers as 1B models have, whose kernels are compiled without their
work: `python -m benchmarks.dispatch [--rounds 7] [--gpu]`. Prints JSON with WebGPU's calls in a step, medians
in milliseconds, and how many times less ours takes. The two take turns in one page.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from benchmarks.checkpoints import Shape, write_checkpoint
from tests.browser import bundle_script, serving
from web.browser import chromium
from webbuild.build import BuildRequest, build
from webbuild.effort import Rounding

NARROW = Shape(256, 768, 16, 4, 2, 64, 4096)
STEPS = 100
TASKS = "disabled-by-default-devtools.timeline"
PAGE = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="dispatch.js"></script>'


def build_library(folder: Path) -> Path:
    checkpoint = folder / "checkpoint"
    write_checkpoint(NARROW, checkpoint)
    request = BuildRequest(
        checkpoint=checkpoint,
        output=folder / "bundle",
        targets=("webgpu-f32",),
        quantization="q4f32_1",
        rounding=Rounding("fast"),
        measure=False,
    )
    build(request)
    return folder / "bundle/lib/webgpu-f32.wasm"


def cpu_time(browser: Browser, page: Page, way: str) -> float:
    """Milliseconds of the thread's time that a step takes."""
    script = "([way, steps]) => round(way, steps)"
    return main_thread_ms(browser, page, lambda: page.evaluate(script, [way, STEPS])) / STEPS


def main_thread_ms(browser: Browser, page: Page, work: Callable[[], object]) -> float:
    """Time of the page's main thread while `work` is done: other programs don't lengthen it."""
    browser.start_tracing(page=page, categories=[TASKS])
    work()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    tasks = [e for e in events if e["name"] == "RunTask"]
    pages = [e for e in tasks if names.get((e["pid"], e["tid"])) == "CrRendererMain"]
    total: float = sum(task.get("tdur", 0) for task in pages) / 1000
    return total


def run(rounds: int, *, software: bool) -> dict[str, Any]:
    """What a step calls and takes, by dispatcher, and the ratio of the medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build_library(folder)
        (folder / "page.html").write_text(PAGE)
        bundle_script(Path(__file__).with_suffix(".ts"), folder / "dispatch.js")
        with serving(folder) as url, chromium(software=software) as browser:
            page = browser.new_page()
            page.goto(f"{url}page.html")
            page.wait_for_function("globalThis.ready === true")
            wanted = [url + str(library.relative_to(folder)), STEPS]
            calls = page.evaluate("([url, steps]) => prepare(url, steps)", wanted)
            # The first round is for the browser's compiler.
            turns = [
                {way: cpu_time(browser, page, way) for way in calls} for _ in range(rounds + 1)
            ]
            version = browser.version
    medians = {way: statistics.median(turn[way] for turn in turns[1:]) for way in calls}
    return {
        "browser": version,
        "rounds": rounds,
        "calls": calls,
        "median_ms": medians,
        "tvmjs_over_ours": medians["tvmjs"] / medians["ours"],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns that each dispatcher takes")
    parser.add_argument("--gpu", action="store_true", help="this machine's GPU, not SwiftShader")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.rounds, software=not arguments.gpu), indent=1))


if __name__ == "__main__":
    main()
