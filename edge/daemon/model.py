"""The model behind the API: loading, ready, draining."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from edge.daemon.config import DaemonConfig
from edge.daemon.errors import ApiError, unavailable
from edge.hardware.device import Device, memory_for_models, probe, profile
from mlc_edge.bundle import ModelInfo
from mlc_edge.engine import AsyncMLCEngine, EngineConfig, EngineStats
from mlc_edge.errors import EngineError
from mlc_edge.models import resolve_model

logger = logging.getLogger(__name__)
State = Literal["loading", "ready", "draining"]
Progress = Callable[[str, float | None], None]
T = TypeVar("T")
REFUSALS = {
    "loading": ("model_loading", "The model is still loading. Ask again; /ready says when."),
    "draining": ("engine_stopped", "The daemon is shutting down. Ask again after its restart."),
}


@dataclass(frozen=True)
class Loaded:
    """An engine that passed its self-check, and the bundle it came from."""

    engine: AsyncMLCEngine
    bundle: Path


class ServedModel:
    """Used on the event loop; only the engine's threads and `load`'s touch the model itself."""

    def __init__(self) -> None:
        self.state: State = "loading"
        self._loaded: Loaded | None = None

    async def load(self, config: DaemonConfig, on_progress: Progress) -> Loaded:
        """Load and check the model in a thread of its own; raises MlcEdgeError."""
        loaded = await _in_thread(lambda: _load(config, on_progress))
        self._loaded = loaded
        if self.state == "loading":
            self.state = "ready"
        return loaded

    def engine(self) -> AsyncMLCEngine:
        """The engine, if it takes requests; raises ApiError 503."""
        if self._loaded is None or self.state != "ready":
            raise self.refusal()
        return self._loaded.engine

    def refusal(self) -> ApiError:
        """Why there is no engine for new requests."""
        return unavailable(*REFUSALS[self.state])

    def info(self) -> ModelInfo | None:
        return self._loaded.engine.model if self._loaded else None

    def stats(self) -> EngineStats | None:
        return self._loaded.engine.stats() if self._loaded else None

    async def ended(self) -> None:
        """Wait for the engine's end; raises EngineError if it ended by itself."""
        if self._loaded is None:
            return
        try:
            await asyncio.wrap_future(self._loaded.engine.ended)
        except Exception as error:
            raise EngineError("internal", f"The engine has ended: {error}.") from error

    async def close(self, drain_s: float) -> None:
        """End the engine; running requests may go on for `drain_s`, new ones get 503."""
        self.state = "draining"
        if self._loaded:
            await self._loaded.engine.close(drain_s)


def engine_config(config: DaemonConfig, device: Device) -> EngineConfig:
    """The part of the configuration that the engine takes; what it leaves open suits the board."""
    board = profile(device)
    return EngineConfig(
        mode=config.mode,
        device=config.device,
        target=config.target,
        max_batch_size=config.max_batch,
        memory_limit_bytes=config.memory_limit or memory_for_models(device),
        max_queue=config.max_queue,
        prefill_threads=config.prefill_threads or board.prefill_threads,
        decode_threads=config.decode_threads or board.decode_threads,
        context_policy=config.context_policy,
        deterministic=config.deterministic,
        served_names=config.served_model_name,
    )


def _load(config: DaemonConfig, on_progress: Progress) -> Loaded:
    settings = engine_config(config, probe())
    bundle = resolve_model(
        config.model,
        target=settings.build_target(on_progress),
        progress=on_progress,
        trust_library=config.trust_library,
        trusted_keys=config.trusted_key,
    )
    engine = AsyncMLCEngine(bundle, settings, progress=on_progress, trust_library=True)
    return Loaded(engine, bundle)


async def _in_thread(work: Callable[[], T]) -> T:
    """Like asyncio.to_thread, but a process that is told to end doesn't wait for it."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            _hand_over(loop, result, partial(result.set_exception, error))
        else:
            _hand_over(loop, result, partial(result.set_result, value))

    threading.Thread(target=run, name="load", daemon=True).start()
    return await result


def _hand_over(
    loop: asyncio.AbstractEventLoop, result: "asyncio.Future[T]", finish: Callable[[], None]
) -> None:
    try:
        loop.call_soon_threadsafe(lambda: None if result.done() else finish())
    except RuntimeError:
        logger.debug("the daemon ended while its model was loading")
