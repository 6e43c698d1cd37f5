"""The public engine: one model, many requests at once."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mlc_edge.cpu import physical_cores
from mlc_edge.engine.completion import ChatFormat, Format, TextFormat
from mlc_edge.engine.config import EngineConfig
from mlc_edge.engine.conversation import ContextLimits, check_length
from mlc_edge.engine.engine_loop import EngineLoop, EngineStats
from mlc_edge.engine.generation import Generation, GenerationContext, Piece
from mlc_edge.engine.model_text import ModelText, read_model_text
from mlc_edge.engine.protocol import CompletionRequest, parse_chat, parse_completion
from mlc_edge.engine.request import Event, Finished, Request, Sequence, TokenEvent
from mlc_edge.engine.thread import EngineThread, EventQueue
from mlc_edge.errors import EngineError
from mlc_edge.model_runner import ModelRunner
from mlc_edge.models import resolve_model
from mlc_edge.openai import ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk

Progress = Callable[[str, float | None], None]
# Room that the policy "truncate-oldest" makes for an answer of unknown length.
RESERVE = 256
POLL_S = 0.01


class AsyncMLCEngine:
    """Answers on a thread of its own; usable from any event loop.

    `engine.chat.completions.create(...)` and `engine.completions.create(...)` take OpenAI's
    parameters and give its objects, or an async iterator of chunks with `stream=True`.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        config: EngineConfig | None = None,
        *,
        progress: Progress | None = None,
        trust_library: bool = False,
    ) -> None:
        """Load `model`: a bundle, a checkpoint folder, "HF://owner/name", or the embedded model.

        Blocks until it is loaded; `progress` is told of steps and, where known, their share done.
        With `trust_library`, compiled code that came over the network runs. Raises MlcEdgeError.
        """
        self.config = config or EngineConfig()
        bundle = resolve_model(
            model, target=self.config.target, progress=progress, trust_library=trust_library
        )
        self._text = read_model_text(bundle)
        if progress:
            progress("loading the model", None)
        self._thread = EngineThread(partial(_create_core, bundle, self.config, self._text))
        self._jobs: set[Request] = set()
        # A stream that is dropped cancels its job, at any moment: within another call, too.
        self._lock = threading.RLock()
        self._closing = False
        self.chat = _Chat(self)
        self.completions = _Completions(self)

    @property
    def model(self) -> Any:
        """Id, type, quantisation and context of the model."""
        return self._text.model

    @property
    def vocab_size(self) -> int:
        """Tokens that may be drawn."""
        return self._text.active_vocab_size

    def stats(self) -> EngineStats:
        """What the engine does and has done."""
        return self._core.stats()

    def check(self) -> None:
        """Compare the library's results with known ones; raises EngineError internal."""
        self._thread.call(self._core.check).result()

    async def close(self, drain_s: float = 0) -> None:
        """Refuse new requests, let running ones go on for `drain_s` seconds, then end the engine."""
        with self._lock:
            self._closing = True
        deadline = time.monotonic() + drain_s
        while self._jobs and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        await asyncio.to_thread(self._thread.stop)

    @property
    def _core(self) -> EngineLoop:
        return self._thread.core

    async def _chat_job(self, params: dict[str, Any]) -> tuple[CompletionRequest, "_Running"]:
        request = parse_chat(params, self._text.facts)
        limits = ContextLimits(self._window, self.config.context_policy, RESERVE)
        fit = self._text.conversation.fit
        prompt = await asyncio.to_thread(fit, request.messages, limits)
        return request, self._start(request, [prompt])

    async def _text_job(self, params: dict[str, Any]) -> tuple[CompletionRequest, "_Running"]:
        request = parse_completion(params, self._text.facts)
        prompts = await asyncio.to_thread(self._encode, request.prompts)
        for prompt in prompts:
            if not prompt:
                message = "prompt has no tokens."
                raise EngineError("invalid_request", message, "Give some text.", "prompt")
            check_length(len(prompt), self._window, len(prompt), "prompt")
        return request, self._start(request, prompts)

    def _encode(self, prompts: Iterable[str | tuple[int, ...]]) -> list[list[int]]:
        encode = self._text.conversation.encode
        return [encode(p) if isinstance(p, str) else list(p) for p in prompts]

    @property
    def _window(self) -> int:
        """Tokens that a sequence may have: what the model reads, and what the cache holds."""
        return min(self._text.model.context_window_size, self._core.capacity)

    def _start(self, request: CompletionRequest, prompts: list[list[int]]) -> "_Running":
        events = EventQueue()
        job = Request(emit=lambda event: self._emit(events, job, event))
        context = GenerationContext(
            request=request,
            vocabulary=self._text.vocabulary,
            stop_tokens=self._text.stop_tokens,
            context_window_size=self._window,
            seed=random.getrandbits(53) if request.seed is None else request.seed,
        )
        for index, prompt in enumerate(prompts):
            first = index * request.choices
            group = [
                Sequence(job, first + n, Generation(context, n, prompt), is_leader=n == 0)
                for n in range(request.choices)
            ]
            group[0].siblings = group[1:]
            job.sequences += group
        self._queue(job)
        return _Running(self, job, events)

    def _queue(self, job: Request) -> None:
        with self._lock:
            if self._closing:
                raise EngineError("engine_stopped", "The engine is shutting down.", "Ask another.")
            batch = self._core.batch_size
            places = batch + self.config.queue_size(batch)
            if len(self._jobs) >= places:
                raise EngineError(
                    "queue_full",
                    f"{len(self._jobs)} requests are being answered or wait.",
                    "Try again in a moment.",
                )
            self._jobs.add(job)
            self._thread.submit(job)

    def _emit(self, events: EventQueue, job: Request, event: Event) -> None:
        if not isinstance(event, TokenEvent):
            self._forget(job)
        self._thread.deliver(events, event)

    def _forget(self, job: Request) -> None:
        with self._lock:
            self._jobs.discard(job)

    def _cancel(self, job: Request) -> None:
        if job in self._jobs:
            self._forget(job)
            self._thread.cancel(job)


def _create_core(bundle: Path, config: EngineConfig, text: ModelText) -> EngineLoop:
    threads = config.threads(len(physical_cores()))
    runner = ModelRunner(bundle, config.target, threads=threads)
    return EngineLoop(runner, config, text.active_vocab_size)


class _Running:
    """A job that was queued."""

    def __init__(self, engine: AsyncMLCEngine, job: Request, events: EventQueue) -> None:
        self._engine, self._job, self._events = engine, job, events

    async def next(self) -> TokenEvent | Finished:
        """The next event; raises the EngineError that ended the job."""
        event = await self._events.get()
        if isinstance(event, EngineError):
            raise event
        return event

    def cancel(self) -> None:
        """Free what the job holds, unless it is finished."""
        self._engine._cancel(self._job)

    async def whole(self, form: Format) -> Any:
        """Wait for all choices; a task that is cancelled meanwhile cancels the job."""
        pieces: list[list[Piece]] = [[] for _ in self._job.sequences]
        try:
            while isinstance(event := await self.next(), TokenEvent):
                pieces[event.choice].append(event.piece)
        finally:
            self.cancel()
        return form.whole(pieces, event.usage)


class _Stream:
    """Chunks of an answer; closing it, or dropping it, cancels the request."""

    def __init__(self, running: _Running, form: Format, *, usage: bool) -> None:
        self._running = running
        self._chunks = self._generate(form, usage)

    def __aiter__(self) -> "_Stream":
        return self

    async def __anext__(self) -> Any:
        return await self._chunks.__anext__()

    async def aclose(self) -> None:
        """Cancel what is left."""
        self._running.cancel()
        await self._chunks.aclose()

    def __del__(self) -> None:
        self._running.cancel()

    async def _generate(self, form: Format, usage: bool) -> AsyncGenerator[Any, None]:
        try:
            while isinstance(event := await self._running.next(), TokenEvent):
                for chunk in form.piece(event.choice, event.piece):
                    yield chunk
        finally:
            self._running.cancel()
        if usage:
            yield form.last(event.usage)


class _ChatCompletions:
    def __init__(self, engine: AsyncMLCEngine) -> None:
        self._engine = engine

    async def create(self, /, **params: Any) -> ChatCompletion | AsyncIterator[ChatCompletionChunk]:
        """OpenAI's `chat.completions.create`; raises EngineError."""
        request, running = await self._engine._chat_job(params)
        form = ChatFormat(
            self._engine.model.id,
            logprobs=request.sampling.logprobs is not None,
            usage=request.include_usage,
        )
        if request.stream:
            return _Stream(running, form, usage=request.include_usage)
        answer: ChatCompletion = await running.whole(form)
        return answer


class _Chat:
    def __init__(self, engine: AsyncMLCEngine) -> None:
        self.completions = _ChatCompletions(engine)


class _Completions:
    def __init__(self, engine: AsyncMLCEngine) -> None:
        self._engine = engine

    async def create(self, /, **params: Any) -> Completion | AsyncIterator[CompletionChunk]:
        """OpenAI's `completions.create`; raises EngineError."""
        request, running = await self._engine._text_job(params)
        decode = self._engine._text.conversation.decode
        echoes = [
            (prompt if isinstance(prompt, str) else decode(prompt)) if request.echo else ""
            for prompt in request.prompts
            for _ in range(request.choices)
        ]
        form = TextFormat(
            self._engine.model.id,
            echoes,
            logprobs=request.sampling.logprobs is not None,
            usage=request.include_usage,
        )
        if request.stream:
            return _Stream(running, form, usage=request.include_usage)
        answer: Completion = await running.whole(form)
        return answer
