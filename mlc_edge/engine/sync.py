"""The engine for code without an event loop: a bridge to the one implementation."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from mlc_edge.engine.config import EngineConfig
from mlc_edge.engine.engine import AsyncMLCEngine, Progress
from mlc_edge.engine.stats import EngineStats

T = TypeVar("T")


class MLCEngine:
    """AsyncMLCEngine with plain calls; a context manager that closes it.

    May be called from several threads at once: their requests share batches.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        config: EngineConfig | None = None,
        *,
        progress: Progress | None = None,
        trust_library: bool = False,
    ) -> None:
        """As AsyncMLCEngine."""
        self._engine = AsyncMLCEngine(model, config, progress=progress, trust_library=trust_library)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="mlc-edge-sync", daemon=True
        )
        self._thread.start()
        self.chat = _Namespace(completions=_Create(self, self._engine.chat.completions))
        self.completions = _Create(self, self._engine.completions)

    @property
    def model(self) -> Any:
        """Id, type, quantisation and context of the model."""
        return self._engine.model

    @property
    def sampling(self) -> Mapping[str, float]:
        """Fields of requests that the model's files name values for, which requests may leave out."""
        return self._engine.sampling

    def stats(self) -> EngineStats:
        """What the engine does and has done."""
        return self._engine.stats()

    def check(self) -> None:
        """Compare the library's results with known ones; raises EngineError internal."""
        self._engine.check()

    def close(self) -> None:
        """End the engine; requests that run get an error."""
        if self._loop.is_closed():
            return
        self._wait(self._engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "MLCEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; if Ctrl-C comes first, `work` has been cancelled and has ended."""
        call = _Call(work)
        try:
            self._loop.call_soon_threadsafe(call.start, self._loop)
            call.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(call.cancel)
            call.wait()
            raise
        return call.result()


class _Call(Generic[T]):
    """A coroutine on its way through the loop's thread, which alone calls `start` and `cancel`.

    Waits by a bare lock: conditions, and so futures, break if a signal comes inside them.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._has_ended = False
        self._running = threading.Lock()
        self._running.acquire()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._work)
        self._task.add_done_callback(lambda _: self._end())

    def cancel(self) -> None:
        if self._task:
            self._task.cancel()
        else:
            self._work.close()
            self._end()

    def wait(self) -> None:
        if not self._has_ended:
            self._running.acquire()

    def result(self) -> T:
        assert self._task
        return self._task.result()

    def _end(self) -> None:
        self._has_ended = True
        self._running.release()


class _SyncStream:
    """Chunks of an answer; closing it, or dropping it, cancels the request."""

    def __init__(self, bridge: MLCEngine, chunks: Any) -> None:
        self._bridge, self._chunks = bridge, chunks

    def __iter__(self) -> "_SyncStream":
        return self

    def __next__(self) -> Any:
        try:
            return self._bridge._wait(self._chunks.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Cancel what is left."""
        self._bridge._wait(self._chunks.aclose())


class _Create:
    """`create` of one endpoint."""

    def __init__(self, bridge: MLCEngine, endpoint: Any) -> None:
        self._bridge, self._endpoint = bridge, endpoint

    def create(self, /, **params: Any) -> Any:
        """The answer, or an iterator of chunks with `stream=True`; raises EngineError."""
        answer = self._bridge._wait(self._endpoint.create(**params))
        return _SyncStream(self._bridge, answer) if hasattr(answer, "__anext__") else answer


class _Namespace:
    """Makes `engine.chat.completions` of an endpoint."""

    def __init__(self, completions: _Create) -> None:
        self.completions = completions
