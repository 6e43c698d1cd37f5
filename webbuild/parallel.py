"""Threads for NumPy: ours, each with a BLAS of one thread.

A BLAS's own threads wait for each other in loops: beside other busy programs they take many times as long.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


def cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """A thread for each CPU; results must not depend on their number."""
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(cpu_count()) as threads,
    ):
        yield threads
