"""The public engine: one model, many requests at once."""

import asyncio
import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mlc_edge.bundle import ModelInfo
from mlc_edge.cpu import physical_cores
from mlc_edge.devices import DeviceChoice, open_runner
from mlc_edge.engine.completion import ChatFormat, TextFormat
from mlc_edge.engine.config import EngineConfig
from mlc_edge.engine.conversation import ContextLimits, check_length
from mlc_edge.engine.endpoints import Chat, Endpoint
from mlc_edge.engine.engine_loop import EngineLoop
from mlc_edge.engine.generation import Generation, GenerationContext, TokenEvent
from mlc_edge.engine.model_text import ModelText, read_model_text
from mlc_edge.engine.protocol import CompletionRequest, parse_chat, parse_completion
from mlc_edge.engine.request import Event, Request, Sequence
from mlc_edge.engine.stats import EngineStats
from mlc_edge.engine.submission import Submission
from mlc_edge.engine.text_queue import TextQueue
from mlc_edge.engine.thread import EngineThread, EventQueue
from mlc_edge.errors import EngineError
from mlc_edge.fastest import choose_device
from mlc_edge.models import resolve_model

Progress = Callable[[str, float | None], None]
# Room that the policy "truncate-oldest" makes for an answer of unknown length.
RESERVE = 256
POLL_S = 0.01
# Templates and tokenizers of requests run on these, so that long conversations hold up no event loop.
TEXT_THREADS = 2
# Texts that are only tokenized: as many as may wait, the one at work included.
TOKENIZING_PLACES = 32


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
        """Load `model`: a bundle, a checkpoint folder, a GGUF file, "HF://owner/name", or the embedded model.

        Blocks until it is loaded; `progress` is told of steps and, where known, their share done.
        With `trust_library`, compiled code that came over the network runs. Raises MlcEdgeError.
        """
        self.config = config or EngineConfig()
        report = progress or (lambda step, share: None)
        bundle = resolve_model(
            model,
            target=self.config.build_target(report),
            progress=report,
            trust_library=trust_library,
        )
        self._text = read_model_text(bundle)
        self._facts = replace(self._text.facts, names=self.names)
        asked = DeviceChoice.parse(self.config.device)
        device = choose_device(bundle, asked, self.config.target, report)
        report("loading the model", None)
        self._thread = EngineThread(partial(_create_loop, bundle, device, self.config, self._text))
        self._text_threads = ThreadPoolExecutor(TEXT_THREADS, thread_name_prefix="mlc-edge-text")
        self._tokenizing = TextQueue(TOKENIZING_PLACES)
        self._requests: dict[Request, None] = {}
        self._lock = threading.Lock()
        self._closing = False
        self.chat = Chat(Endpoint(self.submit_chat, self._chat_format))
        self.completions = Endpoint(self.submit_completion, self._text_format)

    @property
    def model(self) -> ModelInfo:
        """Id, type, quantisation and context of the model."""
        return self._text.model

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may call the model; answers have the first of them."""
        return self.config.served_names or (self.model.id,)

    @property
    def vocab_size(self) -> int:
        """Tokens that may be drawn."""
        return self._text.active_vocab_size

    @property
    def sampling(self) -> Mapping[str, float]:
        """Fields of requests that the model's files name values for, which requests may leave out."""
        return self._text.sampling

    @property
    def tokenizer_info(self) -> dict[str, str | None]:
        """Jinja source of the chat template, and texts of bos_token and the like, null if there is none."""
        return self._text.conversation.tokenizer_info

    @property
    def batch_size(self) -> int:
        """Sequences that one step takes."""
        return self._loop.batch_size

    @property
    def ended(self) -> "Future[None]":
        """Done once the engine has ended; with an exception if that was a failure."""
        return self._thread.ended

    def stats(self) -> EngineStats:
        """What the engine does and has done."""
        return self._loop.stats()

    def check(self) -> None:
        """Compare the library's results with known ones; raises EngineError internal."""
        self._thread.call(self._loop.check).result()

    async def submit_chat(
        self, params: Mapping[str, Any], *, client: Hashable = None
    ) -> Submission:
        """Queue a request with the parameters of OpenAI's chat.completions; raises EngineError.

        Requests of one `client` share what the engine gives to it; None: a client of its own.
        """
        asked = parse_chat(params, self._facts)
        limits = ContextLimits(
            self._window, self.config.context_policy, asked.max_tokens or RESERVE
        )
        fit = partial(self._text.conversation.fit, asked.messages, limits, begun=asked.begun)
        return await self._submit("chatcmpl", asked, lambda is_gone: [fit(is_gone)], client)

    async def submit_completion(
        self, params: Mapping[str, Any], *, client: Hashable = None
    ) -> Submission:
        """Queue a request with the parameters of OpenAI's completions; raises EngineError."""
        asked = parse_completion(params, self._facts)
        encode = partial(self._encode, asked.prompts)
        return await self._submit("cmpl", asked, encode, client)

    def abort(self, request_id: str) -> bool:
        """End a request early: its choices finish with "abort"; False if there is no such request."""
        with self._lock:
            request = next((r for r in self._requests if r.id == request_id), None)
        if request is None:
            return False
        with suppress(EngineError):
            self._thread.call(partial(self._loop.abort, request))
        return True

    async def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The text's token ids, as in prompts of completions; raises EngineError queue_full.

        Special tokens are those that the tokenizer puts in front, such as <s>.
        """
        front = self._text.conversation.front if add_special_tokens else ()
        return [*front, *await self._tokenizing.run(partial(self._text.conversation.encode, text))]

    async def tokenize_chat(
        self, params: Mapping[str, Any], *, add_special_tokens: bool = False
    ) -> list[int]:
        """The token ids of the prompt that a chat request gives; raises EngineError.

        Templates write special tokens themselves: others come before those of the template.
        """
        asked = parse_chat(params, self._facts)
        front = self._text.conversation.front if add_special_tokens else ()
        tokens = partial(self._text.conversation.tokens, asked.messages, asked.begun)
        return [*front, *await self._tokenizing.run(tokens)]

    async def detokenize(self, ids: Iterable[int]) -> str:
        """The text of tokens, without special ones; raises EngineError queue_full."""
        return await self._tokenizing.run(partial(self._text.conversation.decode, list(ids)))

    async def close(self, drain_s: float = 0) -> None:
        """Refuse new requests, let running ones go on for `drain_s` seconds, then end the engine."""
        with self._lock:
            self._closing = True
        deadline = time.monotonic() + drain_s
        while self._requests and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        await asyncio.to_thread(self._thread.stop)
        self._text_threads.shutdown(wait=False, cancel_futures=True)
        self._tokenizing.close()

    @property
    def _loop(self) -> EngineLoop:
        return self._thread.engine_loop

    @property
    def _window(self) -> int:
        """Tokens that a sequence may have: what the model reads, and what the cache holds."""
        return min(self._text.model.context_window_size, self._loop.capacity)

    def _chat_format(self, submission: Submission) -> ChatFormat:
        asked = submission.asked
        return ChatFormat(
            submission.id,
            self.names[0],
            logprobs=asked.sampling.logprobs is not None,
            usage=asked.include_usage,
        )

    def _text_format(self, submission: Submission) -> TextFormat:
        asked = submission.asked
        decode = self._text.conversation.decode
        echoes = [
            (prompt if isinstance(prompt, str) else decode(prompt)) if asked.echo else ""
            for prompt in asked.prompts
            for _ in range(asked.choices)
        ]
        return TextFormat(
            submission.id,
            self.names[0],
            echoes,
            logprobs=asked.sampling.logprobs is not None,
            usage=asked.include_usage,
        )

    async def _submit(
        self,
        kind: str,
        asked: CompletionRequest,
        encode: Callable[[Callable[[], bool]], list[list[int]]],
        client: Hashable,
    ) -> Submission:
        events = EventQueue()
        name = f"{kind}-{uuid.uuid4()}"
        request = Request(
            id=name,
            client=name if client is None else client,
            emit=lambda event: self._emit(events, request, event),
            deterministic=asked.deterministic
            if asked.deterministic is not None
            else self.config.deterministic,
        )
        self._reserve(request)
        gone = threading.Event()
        try:
            prompts = await self._on_text_thread(partial(encode, gone.is_set))
            for prompt in prompts:
                self._check_prompt(prompt)
            request.sequences = self._sequences(request, asked, prompts)
            request.meter.prompt_tokens = sum(map(len, prompts))
            self._thread.submit(request)
        except BaseException:
            gone.set()
            self._forget(request)
            raise
        cancel = partial(self._cancel, request)
        return Submission(name, asked, prompts, events, cancel)

    def _reserve(self, request: Request) -> None:
        """A place in the queue; a client that has none finds one as long as it is not twice full."""
        with self._lock:
            if self._closing:
                raise EngineError("engine_stopped", "The engine is shutting down.", "Ask another.")
            batch = self.batch_size
            places = batch + self.config.queue_size(batch)
            others = {other.client for other in self._requests}
            is_new = request.client not in (request.id, *others)
            if len(self._requests) >= places * (2 if is_new else 1):
                raise EngineError(
                    "queue_full",
                    f"{len(self._requests)} requests are being answered or wait.",
                    "Try again in a moment.",
                )
            self._requests[request] = None

    def _check_prompt(self, prompt: list[int]) -> None:
        if not prompt:
            message = "prompt has no tokens."
            raise EngineError("invalid_request", message, "Give some text.", "prompt")
        check_length(len(prompt), self._window, len(prompt), "prompt")

    def _sequences(
        self, request: Request, asked: CompletionRequest, prompts: list[list[int]]
    ) -> list[Sequence]:
        context = GenerationContext(
            request=asked,
            vocabulary=self._text.vocabulary,
            stop_tokens=self._text.stop_tokens,
            context_window_size=self._window,
            front_tokens=len(self._text.conversation.front),
            seed=random.getrandbits(53) if asked.seed is None else asked.seed,
        )
        sequences: list[Sequence] = []
        for index, prompt in enumerate(prompts):
            first = index * asked.choices
            leader, *others = [
                Sequence(
                    request,
                    first + n,
                    Generation(context, prompt, choice=first + n, nth=n),
                    is_leader=n == 0,
                )
                for n in range(asked.choices)
            ]
            # Pages that are shared are attended to apart from others, which rounds differently.
            leader.siblings = [] if request.deterministic else others
            sequences += (leader, *others)
        return sequences

    def _encode(
        self, prompts: Iterable[str | tuple[int, ...]], is_gone: Callable[[], bool]
    ) -> list[list[int]]:
        conversation = self._text.conversation
        left = itertools.takewhile(lambda _: not is_gone(), prompts)
        return [
            [*conversation.front, *conversation.encode(p)] if isinstance(p, str) else list(p)
            for p in left
        ]

    async def _on_text_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._text_threads, work)

    def _emit(self, events: EventQueue, request: Request, event: Event) -> None:
        if not isinstance(event, TokenEvent):
            self._forget(request)
        self._thread.deliver(events, event)

    def _forget(self, request: Request) -> None:
        with self._lock:
            self._requests.pop(request, None)

    def _cancel(self, request: Request) -> None:
        """Streams that nobody holds any more call this at any moment, within other calls, too."""
        with suppress(EngineError):
            self._thread.call(partial(self._drop, request))

    def _drop(self, request: Request) -> None:
        self._loop.cancel(request)
        self._forget(request)


def _create_loop(
    bundle: Path, device: DeviceChoice, config: EngineConfig, text: ModelText
) -> EngineLoop:
    threads = config.threads(len(physical_cores()))
    runner = open_runner(bundle, device, config.target, threads=threads)
    loop = EngineLoop(runner, config, text.active_vocab_size)
    loop.check()
    return loop
