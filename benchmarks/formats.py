"""What formats do to a real model, ours and llama.cpp's: `python -m benchmarks.formats --peer PYTHON`.

All are made of one GGUF file (SmolLM2-135M-Instruct, Q4_1), and held against its values in floats on three
windows of 512 tokens: of a licence and of a description of software. Prints a table in Markdown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.against_llama_cpp import CONTEXT, ROOT, Contestant
from benchmarks.real_model import real_model
from webbuild.calibration.corpus import Ids, TokenIds
from webbuild.checkpoint import Checkpoint
from webbuild.effort import open_float
from webbuild.gguf.checkpoint import open_gguf
from webbuild.models.llama_float import FloatModel
from webbuild.parallel import worker_threads
from webbuild.quality.compare import WINDOW_TOKENS, compare
from webbuild.quality.divergence import Agreement, Comparison
from webbuild.quality.measure import hidden_states

OURS = {
    "q4 fast": ("--quant", "q4", "--quant-effort", "fast"),
    "q4": ("--quant", "q4"),
    "q4 best": ("--quant", "q4", "--quant-effort", "best"),
    "95 MB": ("--size", "95MB"),
    "as in the file": (),
    "q8": ("--quant", "q8"),
}
# Names and numbers of llama.cpp's file types.
THEIRS = {"Q4_0": 2, "Q4_1": 3, "Q4_K_M": 15, "Q8_0": 7}


@dataclass(frozen=True)
class Row:
    """A format's size in bytes, quality, and decode speed in tokens a second."""

    name: str
    bytes: int
    agreement: Agreement
    speed: float

    def markdown(self) -> str:
        """A line of the table."""
        found = self.agreement
        return (
            f"| {self.name} | {self.bytes / 1e6:.1f} | {found.mean_divergence:.4f} | {found.same_choice:.3f} "
            f"| {found.model_perplexity:.2f} | {self.speed:.0f} |"
        )


def evaluation_text() -> str:
    """English of two kinds, of which the calibration text has nothing."""
    return (ROOT / "benchmarks/evaluation.txt").read_text(encoding="utf-8")


def our_row(name: str, source: Checkpoint, threads: int) -> Row:
    """Build the format, compare it and time it."""
    output = ROOT / "build" / f"formats-{name.replace(' ', '-')}"
    command = [sys.executable, "-m", "mlc_edge", "build", str(source.path), *OURS[name]]
    subprocess.run([*command, "--target", "native", "-o", str(output)], check=True, cwd=ROOT)
    result = compare(output, source, evaluation_text(), lambda _: None)
    runner = [sys.executable, "-m", "benchmarks.mlc_edge_runner", str(output)]
    ours = Contestant(name, [*runner, str(threads), str(CONTEXT)])
    ours.seconds("decode", 32)
    speed = 1 / ours.seconds("decode", 64)
    ours.close()
    return Row(f"mlc-edge {name}", result.parameter_bytes, result.agreement, speed)


def their_row(name: str, peer: str, source: Checkpoint, tokens: Ids) -> Row:
    """Have llama.cpp quantise, compute and time."""
    with tempfile.TemporaryDirectory() as folder:
        windows, logits = Path(folder, "windows.npy"), Path(folder, "logits.npy")
        np.save(windows, tokens)
        script = str(ROOT / "benchmarks/llama_cpp_logits.py")
        command = [peer, script, str(source.path), str(THEIRS[name]), str(windows), str(logits)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        facts = json.loads(done.stdout.splitlines()[-1])
        agreement = agreement_of(open_float(source), tokens, np.load(logits, mmap_mode="r"))
    return Row(f"llama.cpp {name}", facts["bytes"], agreement, 1 / facts["decode_s"])


def agreement_of(reference: FloatModel, tokens: Ids, logits: np.ndarray) -> Agreement:
    """The reference beside given logits [n, length, vocabulary]."""
    with worker_threads():
        states = hidden_states(reference, tokens)[:, :-1]
        comparison = Comparison(tokens[:, 1:].reshape(-1))
        width = states.shape[-1]
        for start, rows in reference.head_blocks():
            theirs = logits[:, :-1, start : start + len(rows)].reshape(-1, len(rows))
            comparison.add(start, states.reshape(-1, width) @ rows.T, theirs)
    return comparison.result()


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="Python with llama-cpp-python; without, only our formats")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=[*OURS, *THEIRS], action="append")
    options = parser.parse_args()
    source = open_gguf(real_model())
    tokens = TokenIds(source.chat).sequences(evaluation_text(), length=WINDOW_TOKENS, count=16)
    print("| format | MB | KL | same first choice | perplexity | tokens/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in OURS:
        if name in (options.only or OURS):
            print(our_row(name, source, options.threads).markdown(), flush=True)
    for name in THEIRS if options.peer else ():
        if name in (options.only or THEIRS):
            print(their_row(name, options.peer, source, tokens).markdown(), flush=True)


if __name__ == "__main__":
    main()
