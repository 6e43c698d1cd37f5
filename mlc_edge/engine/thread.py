"""The thread that owns the model: commands go in, events come out."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from mlc_edge.engine.engine_loop import EngineLoop
from mlc_edge.engine.request import Event, Request
from mlc_edge.errors import EngineError

logger = logging.getLogger(__name__)
T = TypeVar("T")
Outbox = list[tuple["EventQueue", Event]]


class EventQueue:
    """A request's events, for the event loop that asked for it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        """On the event loop only."""
        self._events.put_nowait(event)

    async def get(self) -> Event:
        """The next event."""
        return await self._events.get()


class EngineThread:
    """Creates a core on a thread of its own and runs its steps as long as there is work."""

    def __init__(self, create: Callable[[], EngineLoop]) -> None:
        """Wait for `create`; raises what it raises."""
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._outbox: Outbox = []
        self._stopping = False
        created: Future[EngineLoop] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(create, created), name="mlc-edge-engine", daemon=True
        )
        self._thread.start()
        self.core = created.result()

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Have `work` done between two steps; raises EngineError engine_stopped after the end."""
        if not self._thread.is_alive():
            raise EngineError("engine_stopped", "The engine was stopped.")
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)

        self._commands.put(run)
        return result

    def submit(self, request: Request) -> None:
        """Queue a request; its events are delivered from then on."""
        self._commands.put(lambda: self.core.submit(request))

    def cancel(self, request: Request) -> None:
        """Forget a request, at once as far as its pages are concerned."""
        self._commands.put(lambda: self.core.cancel(request))

    def deliver(self, events: EventQueue, event: Event) -> None:
        """Keep an event until the end of the step; called on the engine's thread."""
        self._outbox.append((events, event))

    def stop(self) -> None:
        """End the thread after its step; running requests get an error."""
        if self._thread.is_alive():
            self._commands.put(self._stop)
            self._thread.join()

    def _stop(self) -> None:
        self._stopping = True
        self.core.fail_all(EngineError("engine_stopped", "The engine was stopped."))

    def _run(self, create: Callable[[], EngineLoop], created: "Future[EngineLoop]") -> None:
        try:
            core = create()
        except BaseException as error:
            created.set_exception(error)
            return
        created.set_result(core)
        while not self._stopping:
            self._obey(wait=core.idle)
            try:
                if not core.idle:
                    core.step()
            except Exception:
                logger.exception("a step of the engine failed")
                failure = EngineError("internal", "The engine failed.", "Its log says why.")
                core.fail_all(failure)
            self._flush()

    def _obey(self, *, wait: bool) -> None:
        try:
            self._commands.get(block=wait)()
            while not self._stopping:
                self._commands.get_nowait()()
        except queue.Empty:
            return

    def _flush(self) -> None:
        """Hand the step's events over, with one wake-up for each event loop."""
        outbox, self._outbox = self._outbox, []
        for loop in {events.loop for events, _ in outbox}:
            batch = [(events, event) for events, event in outbox if events.loop is loop]
            try:
                loop.call_soon_threadsafe(_put_all, batch)
            except RuntimeError:
                logger.debug("an event loop ended before its requests")


def _put_all(batch: Outbox) -> None:
    for events, event in batch:
        events.put(event)
