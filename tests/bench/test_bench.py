"""`mlc-edge bench`: what it counts, and what it refuses; never how fast."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mlc_edge", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_row_for_each_number_of_requests(native_bundle: Path):
    sizes = ("--prompt-tokens", 20, "--max-tokens", 4, "--repeats", 1)
    done = bench(native_bundle, "--concurrency", "1,3", *sizes, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows = result["concurrency"]
    greedy, nucleus = {"temperature": 0}, {"temperature": 0.7, "top_p": 0.9}
    assert [(row["requests_at_once"], row["sampling"]) for row in rows] == [
        (1, greedy),
        (1, nucleus),
        (3, greedy),
        (3, nucleus),
    ]
    for row in rows:
        assert 0 < row["ttft_s"]["p50"] <= row["ttft_s"]["p95"]
        assert 0 < row["tpot_s"]["p50"] <= row["tpot_s"]["p95"]
        assert 0 < row["overhead_share"] < 1
        assert row["output_tokens_per_s"] > 0
    assert result["fresh_process"]["start_to_first_token_s"] > 0
    assert result["fresh_process"]["resident_beyond_weights_bytes"] > 0
    assert result["device"]["target"] == "native"


def test_people_get_a_table(native_bundle: Path):
    sizes = ("--prompt-tokens", 8, "--max-tokens", 2, "--repeats", 1, "--concurrency", 1)
    done = bench(native_bundle, *sizes)
    assert done.returncode == 0, done.stderr
    assert "TTFT" in done.stdout and "fresh process" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--concurrency", "1,x"), "--concurrency"),
        (("--prompt-tokens", 5000), "exceed the model's context"),
        (("--target", "pi5"), "pi5"),
        # Browser libraries are measured by the browser's own benchmark.
        (("--target", "wasm"), "has webgpu, native"),
    ],
)
def test_wrong_wishes_are_refused(native_bundle: Path, arguments: tuple, message: str):
    done = bench(native_bundle, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
