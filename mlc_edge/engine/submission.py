"""A request that was queued, for who waits for its answer."""

from collections.abc import Callable
from dataclasses import dataclass

from mlc_edge.engine.generation import TokenEvent
from mlc_edge.engine.protocol import CompletionRequest
from mlc_edge.engine.request import Finished
from mlc_edge.engine.thread import EventQueue
from mlc_edge.errors import EngineError


@dataclass(frozen=True)
class Submission:
    """`prompts` are its token ids; `cancel` frees what it holds, unless it is finished."""

    id: str
    asked: CompletionRequest
    prompts: list[list[int]]
    events: EventQueue
    cancel: Callable[[], None]

    async def next(self) -> TokenEvent | Finished:
        """The next event, Finished at last; raises the EngineError that ended the request."""
        event = await self.events.get()
        if isinstance(event, EngineError):
            raise event
        return event
