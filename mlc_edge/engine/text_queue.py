"""Work on texts that nobody's answer waits for, one after another on a thread of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

from mlc_edge.errors import EngineError

T = TypeVar("T")


class TextQueue:
    """Takes up to `places` pieces of work, the one at work included; usable from any event loop."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = BoundedSemaphore(places)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlc-edge-tokenize")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, which doesn't begin any more once the waiting task is cancelled.

        Raises EngineError queue_full.
        """
        if not self._free.acquire(blocking=False):
            raise EngineError(
                "queue_full",
                f"{self._places} texts are being tokenized or wait.",
                "Try again in a moment.",
            )
        # The thread's own queue keeps what was cancelled until its turn, but not these texts.
        held = [work]
        try:
            future = self._thread.submit(lambda: held.pop()())
        except BaseException:
            self._free.release()
            raise

        def leave(_: object) -> None:
            held.clear()
            self._free.release()

        future.add_done_callback(leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits."""
        self._thread.shutdown(wait=False, cancel_futures=True)
