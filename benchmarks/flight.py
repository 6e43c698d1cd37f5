"""What steps in flight gain: decoding in Chromium with one, two and three at once, in turn.

`python -m benchmarks.flight [--checkpoint FOLDER] [--tokens 60] [--rounds 12] [--gpu]` prints JSON with the
median of tokens/s by steps in flight, and what each is of one. The library is the one for hardware, whose
device draws. Without a checkpoint it is of two narrow layers: SwiftShader is so slow at larger ones that what
a wait for a token takes is lost in them.
"""

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import Shape, write_checkpoint
from tests.browser import PAGE, WORKER, build_bundle, bundle_script, engine_page, serving
from web.browser import chromium

SETTING = "STEPS_IN_FLIGHT = 2;"
DEPTHS = (1, 2, 3)
NARROW = Shape(64, 128, 2, 4, 2, 32, 1024)
REQUEST: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tell me of the sea."}],
    "temperature": 0,
    "ignore_eos": True,
}


def run(checkpoint: Path | None, *, tokens: int, rounds: int, software: bool) -> dict[str, Any]:
    """Tokens/s by depth."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as open_pages:
        site = Path(name)
        options = ("--target", "webgpu-f32", "--quant", "q4f32_1", "--no-measure")
        if checkpoint is None:
            checkpoint = site / "checkpoint"
            write_checkpoint(NARROW, checkpoint)
        build_bundle(checkpoint, site / "bundles/model", *options)
        bundle_script(WORKER / "client/index.ts", site / "client.js")
        bundle_script(WORKER / "engine/worker.ts", site / "worker.js")
        worker = (site / "worker.js").read_text()
        if SETTING not in worker:
            raise RuntimeError(f"the engine's script doesn't say {SETTING}")
        browser = open_pages.enter_context(chromium(software=software))
        pages = {}
        for depth in DEPTHS:
            folder = site / str(depth)
            folder.mkdir()
            (folder / "page.html").write_text(PAGE)
            for shared in ("client.js", "bundles"):
                (folder / shared).symlink_to(site / shared)
            changed = worker.replace(SETTING, f"STEPS_IN_FLIGHT = {depth};")
            (folder / "worker.js").write_text(changed)
            url = open_pages.enter_context(serving(folder))
            pages[depth] = open_pages.enter_context(engine_page(browser, url))
            pages[depth].load("model")
        speeds: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
        for turn in range(rounds + 1):
            for depth in DEPTHS[:: -1 if turn % 2 else 1]:
                page = pages[depth]
                answer = page.complete(**REQUEST, max_tokens=tokens)
                speeds[depth].append(answer["usage"]["extra"]["decode_tokens_per_s"])
    # The first round is for what is made once.
    medians = {depth: statistics.median(of[1:]) for depth, of in speeds.items()}
    return {
        "tokens_per_s": {depth: round(speed, 2) for depth, speed in medians.items()},
        "of_one_at_a_time": {
            depth: round(speed / medians[1], 3) for depth, speed in medians.items()
        },
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--gpu", action="store_true", help="this machine's GPU, not SwiftShader")
    given = parser.parse_args()
    sizes = {"tokens": given.tokens, "rounds": given.rounds}
    print(json.dumps(run(given.checkpoint, **sizes, software=not given.gpu), indent=1))


if __name__ == "__main__":
    main()
