"""How fast this machine reads memory: what bounds the writing of an answer."""

import threading
import time

import numpy as np

# Larger than the caches of what this runs on, small enough for a Pi with 1 GiB.
BUFFER_BYTES = 128 << 20
MEASURE_S = 0.8


def read_bandwidth(threads: int) -> float:
    """Bytes a second that `threads` threads read together, the best of the passes of `MEASURE_S`.

    NumPy's sum of int64 keeps up with memory and lets other threads run meanwhile.
    """
    parts = np.array_split(np.ones(BUFFER_BYTES // 8, np.int64), threads)
    ends = time.perf_counter() + MEASURE_S
    best = _pass(parts)
    while time.perf_counter() < ends:
        best = max(best, _pass(parts))
    return best


def _pass(parts: list[np.ndarray]) -> float:
    workers = [threading.Thread(target=part.sum) for part in parts]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return BUFFER_BYTES / (time.perf_counter() - started)
