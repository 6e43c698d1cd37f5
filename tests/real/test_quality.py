"""What formats may do to a real model, on a text that no quantiser has seen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.formats import evaluation_text
from tests.browser import build_bundle

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
# Options, and the most that a bundle may have of KL (nats a token) and megabytes.
GOALS = {
    "as it is": ((), 0.004, 97),
    "95 MB": (("--size", "95MB"), 0.12, 95),
    "q8": (("--quant", "q8"), 0.001, 144),
    "q4": (("--quant", "q4"), 0.22, 92),
    "q4, best": (("--quant", "q4", "--quant-effort", "best"), 0.18, 92),
}


@pytest.mark.parametrize("goal", GOALS)
def test_the_model_stays_itself(goal: str, gguf: Path, tmp_path: Path):
    options, most_divergence, most_megabytes = GOALS[goal]
    bundle = build_bundle(gguf, tmp_path / "smollm2", "--target", "native", *options)
    text = tmp_path / "text.txt"
    text.write_text(evaluation_text())
    command = [sys.executable, "-m", "mlc_edge", "compare", str(bundle), "--reference", str(gguf)]
    done = subprocess.run(
        [*command, "--text", str(text), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    found = json.loads(done.stdout)
    print(goal, {key: value for key, value in found.items() if not key.startswith("worst")})
    assert found["kl"] <= most_divergence
    assert found["parameter_bytes"] <= most_megabytes * 1e6
