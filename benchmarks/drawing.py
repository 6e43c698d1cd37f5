"""Drawing a token on the device against sampling in JavaScript from all logits, in the same page, in turn.

`python -m benchmarks.drawing [--vocabulary 128256] [--tokens 20] [--gpu]` prints JSON with a token's
dispatches and medians in milliseconds: JavaScript's own work, and all until the token is known.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.browser import bundle_script, serving
from tests.engine.test_drawing import build
from web.browser import chromium

ASKED: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.8},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 40},
    {"temperature": 0.7, "top_p": 0.9, "logprobs": True, "top_logprobs": 5},
]
SCRIPT = '<script type="module" src="drawing.js"></script>'
# The first tokens make what the others use again.
FIRST = 2


def run(vocabulary: int, tokens: int, *, software: bool) -> list[dict[str, Any]]:
    """For each of ASKED its medians, on a device and in JavaScript."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(vocabulary, folder / "library.wasm")
        bundle_script(Path(__file__).with_name("drawing.ts"), folder / "drawing.js")
        (folder / "page.html").write_text(f"<!doctype html><title>drawing</title>{SCRIPT}")
        with serving(folder) as url, chromium(software=software) as browser:
            page = browser.new_page()
            page.goto(f"{url}page.html")
            page.wait_for_function("globalThis.ready === true")
            return [
                _medians(
                    settings,
                    page.evaluate(
                        "(given) => measure(...given)",
                        ["library.wasm", vocabulary, settings, tokens + FIRST],
                    ),
                )
                for settings in ASKED
            ]


def _medians(settings: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    medians = {
        f"{where}_{kind}_ms": round(statistics.median(times[FIRST:]), 2)
        for where, of in measured["times"].items()
        for kind, times in of.items()
    }
    return {**settings, "dispatches": measured["dispatches"], **medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--gpu", action="store_true", help="this machine's GPU, not SwiftShader")
    options = parser.parse_args()
    results = run(options.vocabulary, options.tokens, software=not options.gpu)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
