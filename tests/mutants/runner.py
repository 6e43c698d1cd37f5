"""Plants each fault of an area in a copy of the checkout and sees whether a test fails."""

import queue
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.checkout import Checkout
from tests.mutants.lists import Area, Mutant

PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
# Against the run without a fault: a test that waits in vain is slow before it fails.
LIMIT_FACTOR, LIMIT_EXTRA_S = 3, 60
TAIL_CHARS = 4000


class RunError(RuntimeError):
    """The sources can't be built, or the tests fail, without any fault."""


@dataclass(frozen=True)
class Result:
    """`by` is the first test that failed, or why there is none."""

    mutant: Mutant
    noticed: bool
    seconds: float
    by: str


class Runner:
    """`jobs` copies of the checkout at `root`; the `with` block ends them and what runs in them."""

    def __init__(self, root: Path, *, jobs: int = 1) -> None:
        self._root = root
        self._jobs = jobs

    def __enter__(self) -> "Runner":
        with ExitStack() as stack:
            folder = Path(stack.enter_context(_scratch()))
            stop = threading.Event()
            self._workers = ThreadPoolExecutor(self._jobs)
            stack.callback(self._workers.shutdown, cancel_futures=True)
            stack.callback(stop.set)
            self._copies = [Checkout(self._root, folder / str(n), stop) for n in range(self._jobs)]
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def run(self, area: Area) -> Iterator[Result]:
        """Results in the list's order, each as soon as it and those before it are there.

        Raises:
            RunError: the area fails without a fault.
        """
        clean = self._workers.submit(_run_clean, self._copies[0], area)
        limit_s = LIMIT_FACTOR * clean.result() + LIMIT_EXTRA_S
        free: queue.SimpleQueue[Checkout] = queue.SimpleQueue()
        for copy in self._copies:
            free.put(copy)

        def try_mutant(mutant: Mutant) -> Result:
            copy = free.get()
            try:
                return _try_mutant(copy, area, mutant, limit_s)
            finally:
                free.put(copy)

        yield from self._workers.map(try_mutant, area.mutants)
        if area.build:
            list(self._workers.map(lambda copy: copy.run(list(area.build)), self._copies))


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mlc-edge-mutants-", ignore_cleanup_errors=True)


def _run_clean(copy: Checkout, area: Area) -> float:
    """Seconds that the area's tests take."""
    if area.build and (built := copy.run(list(area.build))).returncode:
        raise RunError(f"{area.name}: the build fails\n{built.output[-TAIL_CHARS:]}")
    tested = copy.run([*PYTEST, *area.tests])
    if tested.returncode:
        raise RunError(
            f"{area.name}: the tests fail without a fault\n{tested.output[-TAIL_CHARS:]}"
        )
    return tested.seconds


def _try_mutant(copy: Checkout, area: Area, mutant: Mutant, limit_s: float) -> Result:
    with copy.planted(mutant):
        if area.build and copy.run(list(area.build)).returncode:
            return Result(mutant, False, 0, "the build fails: no fault for tests to notice")
        tested = copy.run([*PYTEST, *mutant.tests], limit_s)
    if tested.returncode == 0:
        return Result(mutant, False, tested.seconds, "")
    failed = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - |$)", tested.output, re.MULTILINE)
    by = failed.group(1) if failed else f"pytest's exit code {tested.returncode}"
    return Result(mutant, True, tested.seconds, by if tested.returncode else "the time limit")
