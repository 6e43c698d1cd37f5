"""This project and llama.cpp in turn, on one shape: `… -m benchmarks.against_llama_cpp --peer PYTHON`.

Both have random 4-bit weights of the same sizes (ours q4f16_1, theirs Q4_0: 4.5 bits a weight each) and
the same number of threads. Each runs in a process of its own; the one that waits is asleep.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import SHAPES, Shape, write_checkpoint
from edge.hardware.bandwidth import read_bandwidth
from mlc_edge.cpu import host_cpu, physical_cores

ROOT = Path(__file__).parents[1]
CONTEXT = 1024
MEASURES = (("prefill", 128), ("prefill", 512), ("decode", 32))


class Contestant:
    """A process that times what it is told to."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.facts: dict[str, Any] = self._read()

    def seconds(self, kind: str, tokens: int) -> float:
        """What one measurement took."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"kind": kind, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} ended early: see its message above.")
        return json.loads(line)


def build_bundle(shape: Shape, name: str) -> Path:
    """The shape's bundle for this machine, built once in build/."""
    checkpoint, output = ROOT / f"build/random-{name}", ROOT / f"build/random-{name}-q4f16_1"
    write_checkpoint(shape, checkpoint)
    # As many bits as the peer's Q4_0 everywhere; of random weights no rounding is better than another.
    options = ("--mlc-compatible", "--quant-effort", "fast", "--no-measure")
    command = [sys.executable, "-m", "mlc_edge", "build", str(checkpoint), "--target", "native"]
    subprocess.run([*command, *options, "--output", str(output)], check=True, cwd=ROOT)
    return output


def measure(ours: Contestant, peer: Contestant, rounds: int) -> list[dict[str, Any]]:
    """Medians of both, taken in turn, after a round that warms up."""
    rows = []
    for kind, tokens in MEASURES:
        taken: dict[str, list[float]] = {ours.name: [], peer.name: []}
        for number in range(rounds + 1):
            for contestant in (ours, peer):
                seconds = contestant.seconds(kind, tokens)
                if number:
                    taken[contestant.name].append(seconds)
        per = tokens if kind == "prefill" else 1
        speeds = {name: per / statistics.median(times) for name, times in taken.items()}
        rows.append(
            {
                "measure": f"{kind} {tokens}" if kind == "prefill" else kind,
                "tokens_per_s": speeds,
                "ratio": speeds[ours.name] / speeds[peer.name],
            }
        )
    return rows


def report(result: dict[str, Any]) -> None:
    """Print a row a measure, and the share of the bandwidth."""
    ours, peer = result["names"]
    print(f"{'':12}{ours:>12}{peer:>12}{'ratio':>8}   (tokens/s, medians)")
    for row in result["rows"]:
        speeds = row["tokens_per_s"]
        print(f"{row['measure']:12}{speeds[ours]:12.1f}{speeds[peer]:12.1f}{row['ratio']:8.2f}")
    bandwidth = result["memory_bandwidth"]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result["bandwidth_share"].items())
    print(
        f"memory read at {bandwidth / 1e9:.1f} GB/s; a decode step reads its weights at: {shares}"
    )


def main() -> None:
    """Run the comparison and print it; JSON goes to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=sys.executable, help="Python with llama-cpp-python")
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    parser.add_argument("--threads", type=int, default=len(physical_cores()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    bundle = build_bundle(shape, options.shape)
    sizes = [str(options.threads), str(CONTEXT)]
    with tempfile.TemporaryDirectory() as folder:
        runner = str(ROOT / "benchmarks/llama_cpp_runner.py")
        model = str(Path(folder) / "random.gguf")
        theirs = [options.peer, runner, model, *sizes, json.dumps(asdict(shape))]
        peer = Contestant("llama.cpp", theirs)
        mine = [sys.executable, "-m", "benchmarks.mlc_edge_runner", str(bundle), *sizes]
        ours = Contestant("mlc-edge", mine)
        bandwidth = read_bandwidth(options.threads)
        rows = measure(ours, peer, options.rounds)
        ours.close()
        peer.close()
    weight_bytes = ours.facts["weight_bytes"]
    result = {
        "cpu": host_cpu().model,
        "threads": options.threads,
        "shape": asdict(shape),
        "weight_bytes": weight_bytes,
        "memory_bandwidth": bandwidth,
        "names": [ours.name, peer.name],
        "facts": {ours.name: ours.facts, peer.name: peer.facts},
        "rows": rows,
        "bandwidth_share": {
            name: speed * weight_bytes / bandwidth
            for name, speed in rows[-1]["tokens_per_s"].items()
        },
    }
    report(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
