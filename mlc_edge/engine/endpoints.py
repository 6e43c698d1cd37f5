"""`chat.completions` and `completions`: OpenAI's objects made of what a submission gives."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Mapping
from typing import Any

from mlc_edge.engine.completion import Format
from mlc_edge.engine.generation import TokenEvent
from mlc_edge.engine.submission import Submission
from mlc_edge.openai import ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk

Answer = ChatCompletion | Completion
Chunk = ChatCompletionChunk | CompletionChunk
Submit = Callable[..., Awaitable[Submission]]


class Endpoint:
    """Answers requests of one kind; `form` chooses the shape of an answer."""

    def __init__(self, submit: Submit, form: Callable[[Submission], Format]) -> None:
        self._submit = submit
        self._form = form

    async def create(self, /, **params: Any) -> Any:
        """OpenAI's `create`: an answer, or an iterator of chunks with `stream=True`.

        Raises EngineError.
        """
        return await self.answer(params)

    async def answer(
        self, params: Mapping[str, Any], *, client: Hashable = None
    ) -> "Answer | AsyncIterator[Chunk]":
        """Like `create`, for one of several clients, among whom the engine is shared."""
        submission = await self._submit(params, client=client)
        form = self._form(submission)
        if submission.asked.stream:
            return Stream(submission, form)
        return await _whole(submission, form)


class Chat:
    """Makes `engine.chat.completions` of an endpoint."""

    def __init__(self, completions: Endpoint) -> None:
        self.completions = completions


class Stream:
    """Chunks of an answer; closing it, or dropping it, cancels the request."""

    def __init__(self, submission: Submission, form: Format) -> None:
        self._submission = submission
        self._chunks = _generate(submission, form)

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Chunk:
        return await self._chunks.__anext__()

    async def aclose(self) -> None:
        """Cancel what is left."""
        self._submission.cancel()
        await self._chunks.aclose()

    def __del__(self) -> None:
        self._submission.cancel()


async def _generate(submission: Submission, form: Format) -> AsyncGenerator[Chunk, None]:
    """A stream's chunks. It holds no stream: a dropped one must not wait for the garbage collector."""
    try:
        while isinstance(event := await submission.next(), TokenEvent):
            for chunk in form.chunks(event):
                yield chunk
    finally:
        submission.cancel()
    if submission.asked.include_usage:
        yield form.last(event.usage)


async def _whole(submission: Submission, form: Format) -> Answer:
    """Wait for all choices; a task that is cancelled meanwhile cancels the request."""
    events: list[TokenEvent] = []
    try:
        while isinstance(event := await submission.next(), TokenEvent):
            events.append(event)
    finally:
        submission.cancel()
    # Log probabilities of many choices are megabytes, which take seconds: the event loop goes on.
    return await asyncio.to_thread(form.whole, events, event.usage)
