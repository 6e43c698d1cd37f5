"""Writes the golden vectors next to this file: `python -m tests.golden.make`.

What must come out is found by independent means: transformers for prompts, a plain transcription of
the definitions in double precision for sampling, codecs and a search letter by letter for text,
NumPy for stored numbers; what files mean is said by hand.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden import (
    control_tokens,
    cuts,
    lock,
    model_text,
    prompts,
    requests,
    sampling,
    self_test,
    text,
    weights,
)

FOLDER = Path(__file__).parent
MAKERS: dict[str, Callable[[], Any]] = {
    "control_tokens.json": control_tokens.make,
    "cuts.json": cuts.make,
    "lock.json": lock.make,
    "model_text.json": model_text.make,
    "prompts.json": prompts.make,
    "requests.json": requests.make,
    "sampling.json": sampling.make,
    "self_test.json": self_test.make,
    "text.json": text.make,
    "weights.json": weights.make,
}


def render(name: str) -> str:
    """Content of the file `name`."""
    return json.dumps(MAKERS[name](), ensure_ascii=True, indent=None, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    for name in MAKERS:
        (FOLDER / name).write_text(render(name))
