"""The thread that owns the model: commands go in, events come out."""

import asyncio
import atexit
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from mlc_edge.engine.engine_loop import EngineLoop
from mlc_edge.engine.request import Event, Request
from mlc_edge.errors import EngineError

logger = logging.getLogger(__name__)
T = TypeVar("T")
Outbox = list[tuple["EventQueue", Event]]
Command = tuple[Callable[[], object], "Future[object]"]


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
    """Creates an engine loop on a thread of its own and runs its steps as long as there is work.

    `ended` is done once the thread is: with what ended it, if that was a failure.
    """

    def __init__(self, create: Callable[[], EngineLoop]) -> None:
        """Wait for `create`; raises what it raises."""
        self.ended: Future[None] = Future()
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._is_open = True
        # `call` may come within `call`, when what is collected as garbage cancels its request.
        self._guard = threading.RLock()
        self._outbox: Outbox = []
        self._stopping = False
        created: Future[EngineLoop] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(create, created), name="mlc-edge-engine", daemon=True
        )
        # A thread that comes out of TVM while the interpreter is torn down aborts the process.
        atexit.register(self.stop)
        self._thread.start()
        try:
            self.engine_loop = created.result()
        except BaseException:
            atexit.unregister(self.stop)
            raise

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Have `work` done between two steps; raises EngineError engine_stopped after the end."""
        result: Future[T] = Future()
        with self._guard:
            if not self._is_open:
                raise _stopped()
            self._commands.put((work, result))  # type: ignore[arg-type]
        return result

    def submit(self, request: Request) -> None:
        """Queue a request; its events are delivered from then on, be it that it can't be queued."""

        def tell(result: "Future[None]") -> None:
            if result.exception() is not None:
                request.emit(_stopped())

        self.call(partial(self.engine_loop.submit, request)).add_done_callback(tell)

    def deliver(self, events: EventQueue, event: Event) -> None:
        """Keep an event until the end of the step; called on the engine's thread."""
        self._outbox.append((events, event))

    def stop(self) -> None:
        """End the thread after its step; running requests get an error."""
        try:
            self.call(self._stop)
        except EngineError:
            logger.debug("the engine has ended already")
        self._thread.join()
        atexit.unregister(self.stop)

    def _stop(self) -> None:
        self._stopping = True

    def _run(self, create: Callable[[], EngineLoop], created: "Future[EngineLoop]") -> None:
        try:
            engine_loop = create()
        except BaseException as error:
            created.set_exception(error)
            return
        created.set_result(engine_loop)
        failure: BaseException | None = None
        try:
            while not self._stopping:
                self._obey(wait=engine_loop.idle)
                engine_loop.step()
                self._flush()
        except BaseException as error:
            logger.critical("the engine has ended", exc_info=error)
            failure = error
        self._close(engine_loop, failure)

    def _close(self, engine_loop: EngineLoop, failure: BaseException | None) -> None:
        """Nobody waits for an engine that has ended."""
        with self._guard:
            self._is_open = False
        while not self._commands.empty():
            _, result = self._commands.get_nowait()
            result.set_exception(_stopped())
        engine_loop.fail_all(_stopped())
        self._flush()
        if not self.ended.set_running_or_notify_cancel():
            return
        if failure is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(failure)

    def _obey(self, *, wait: bool) -> None:
        try:
            _obey(*self._commands.get(block=wait))
            while not self._stopping:
                _obey(*self._commands.get_nowait())
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


def _obey(work: Callable[[], object], result: "Future[object]") -> None:
    try:
        result.set_result(work())
    except Exception as error:
        result.set_exception(error)


def _put_all(batch: Outbox) -> None:
    for events, event in batch:
        events.put(event)


def _stopped() -> EngineError:
    return EngineError("engine_stopped", "The engine was stopped.", "Ask another.")
