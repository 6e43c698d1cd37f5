"""The engine for code without an event loop: a bridge to the one implementation."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from mlc_edge.engine.config import EngineConfig
from mlc_edge.engine.core import EngineStats
from mlc_edge.engine.engine import AsyncMLCEngine, Progress

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
    ) -> None:
        """As AsyncMLCEngine."""
        self._engine = AsyncMLCEngine(model, config, progress=progress)
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
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


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
        except KeyboardInterrupt:
            self.close()
            raise

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
