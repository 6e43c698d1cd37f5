"""Times this project's model runner by the same commands as benchmarks.llama_cpp_runner."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from mlc_edge.model_runner import CacheSizes, ModelRunner, Threads
from mlc_edge.version import __version__

SEQUENCE = 0


class Peer:
    """A loaded bundle with one sequence."""

    def __init__(self, bundle: Path, threads: int, context: int) -> None:
        self.runner = ModelRunner(bundle, threads=Threads(threads, threads))
        self._chunk = self.runner.prefill_chunk_size
        self.runner.create_cache(CacheSizes(1, context, self._chunk))
        self._random = np.random.default_rng(1)

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of random tokens in an empty cache."""
        ids = self._random.integers(3, 1000, tokens).tolist()
        self.runner.reset()
        self.runner.add_sequence(SEQUENCE)
        started = time.perf_counter()
        for first in range(0, tokens, self._chunk):
            self.runner.prefill([SEQUENCE], [ids[first : first + self._chunk]])
        return time.perf_counter() - started

    def decode(self, tokens: int) -> float:
        """Seconds for each of `tokens` steps after a prompt of 128, the median."""
        self.prefill(128)
        seconds = []
        for _ in range(tokens):
            started = time.perf_counter()
            self.runner.decode([SEQUENCE], [5])
            seconds.append(time.perf_counter() - started)
        return float(np.median(seconds))


def main() -> None:
    """Serve commands until stdin ends."""
    peer = Peer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    facts = {"version": __version__, "build": peer.runner.target}
    print(json.dumps({**facts, "weight_bytes": peer.runner.parameter_bytes}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(peer, command["kind"])(command["tokens"])), flush=True)


if __name__ == "__main__":
    main()
