"""The engine's inner loop: one step after the other, on one thread."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlc_edge.engine.config import EngineConfig, cache_sizes
from mlc_edge.engine.kv_cache import PAGE_TOKENS, KVCache
from mlc_edge.engine.request import Finished, Request, Sequence, TokenEvent
from mlc_edge.engine.sampler import Logits
from mlc_edge.engine.scheduler import Limits, Scheduler
from mlc_edge.engine.self_test import self_test
from mlc_edge.errors import EngineError
from mlc_edge.model_runner import ModelRunner, Threads

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineStats:
    """What the engine does and has done; times in seconds, since its start.

    `overhead_seconds` is the part of `step_seconds` that was not spent in the model library.
    """

    running: int
    waiting: int
    kv_tokens_used: int
    kv_tokens_total: int
    prefix_cached_tokens: int
    prompt_tokens: int
    cached_prompt_tokens: int
    generated_tokens: int
    preemptions: int
    steps: int
    step_seconds: float
    overhead_seconds: float
    parameter_bytes: int
    kv_cache_bytes: int
    target: str
    threads: Threads


@dataclass(frozen=True)
class _Load:
    """Sequences and tokens at the end of a step."""

    running: int
    waiting: int
    used_tokens: int
    total_tokens: int
    retained_tokens: int
    preemptions: int


class EngineLoop:
    """Computes what the scheduler says and gives logits to the answers."""

    def __init__(self, runner: ModelRunner, config: EngineConfig, active_vocab_size: int) -> None:
        """Create the KV cache; raises EngineError out_of_memory if there is no room for one."""
        sizes = cache_sizes(config, runner)
        runner.create_cache(sizes)
        self.batch_size = sizes.sequences
        self._runner = runner
        self._limits = Limits(sizes.sequences, sizes.prefill_chunk)
        self._active_vocab_size = active_vocab_size
        self._preempted = 0
        self._begin_anew()
        self.capacity = (self._cache.total_pages - 1) * PAGE_TOKENS
        self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0
        self._steps = 0
        self._step_seconds = self._library_seconds = 0.0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._scheduler.idle

    def submit(self, request: Request) -> None:
        """Queue a request."""
        leaders = [sequence for sequence in request.sequences if sequence.is_leader]
        request.meter.prompt_tokens = sum(len(sequence.generation.tokens) for sequence in leaders)
        self._prompt_tokens += request.meter.prompt_tokens
        self._scheduler.submit(leaders)
        self._load = self._measure()

    def cancel(self, request: Request) -> None:
        """Forget a request and free its pages."""
        self._scheduler.drop(request)
        self._load = self._measure()

    def fail_all(self, error: EngineError) -> None:
        """Give every request this error; the KV cache is emptied."""
        scheduler = self._scheduler
        for request in {
            sequence.request: None for sequence in (*scheduler.running, *scheduler.waiting)
        }:
            request.emit(error)
        self._runner.reset()
        self._preempted += scheduler.preemptions
        self._begin_anew()

    def check(self) -> None:
        """Compare the library's results with known ones; raises EngineError internal."""
        self_test(self._runner)

    def step(self) -> None:
        """One prefill and one decode, as far as there are any."""
        started = time.perf_counter()
        try:
            self._scheduler.admit()
            self._prefill()
            self._decode()
        except EngineError as error:
            self._fail_running(error)
        self._load = self._measure()
        self._steps += 1
        self._step_seconds += time.perf_counter() - started

    def stats(self) -> EngineStats:
        """A snapshot; may be taken on any thread, as the cache and its library may not."""
        load = self._load
        return EngineStats(
            running=load.running,
            waiting=load.waiting,
            kv_tokens_used=load.used_tokens,
            kv_tokens_total=load.total_tokens,
            prefix_cached_tokens=load.retained_tokens,
            prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=load.preemptions,
            steps=self._steps,
            step_seconds=self._step_seconds,
            overhead_seconds=self._step_seconds - self._library_seconds,
            parameter_bytes=self._runner.parameter_bytes,
            kv_cache_bytes=load.total_tokens * self._runner.kv_bytes_per_token,
            target=self._runner.target,
            threads=self._runner.threads,
        )

    def _begin_anew(self) -> None:
        self._cache = KVCache(self._runner)
        self._scheduler = Scheduler(self._cache, self._limits)
        self._load = self._measure()

    def _measure(self) -> _Load:
        scheduler, cache = self._scheduler, self._cache
        return _Load(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            used_tokens=cache.used_tokens,
            total_tokens=cache.total_pages * PAGE_TOKENS,
            retained_tokens=cache.retained_tokens,
            preemptions=self._preempted + scheduler.preemptions,
        )

    def _prefill(self) -> None:
        runs = self._scheduler.prefills()
        if not runs:
            return
        with self._library() as took:
            logits = self._runner.prefill(
                [_number(sequence) for sequence, _ in runs], [run for _, run in runs]
            )
        for request in {sequence.request: None for sequence, _ in runs}:
            request.meter.prefill_s += took()
        for (sequence, run), row in zip(runs, logits, strict=True):
            self._scheduler.computed(sequence, run)
            if not sequence.pending:
                self._draw(sequence, row)

    def _decode(self) -> None:
        ready = self._scheduler.decodes()
        if not ready:
            return
        with self._library() as took:
            logits = self._runner.decode(
                [_number(sequence) for sequence in ready],
                [sequence.generation.tokens[-1] for sequence in ready],
            )
        for request in {sequence.request: None for sequence in ready}:
            request.meter.decode_s += took()
        for sequence, row in zip(ready, logits, strict=True):
            self._scheduler.computed(sequence, sequence.pending)
            sequence.request.meter.decoded_tokens += 1
            self._draw(sequence, row)

    def _draw(self, sequence: Sequence, logits: Logits) -> None:
        """The next token of a choice, and the first one of those that waited for its prompt."""
        for started in (sequence, *self._scheduler.fork_siblings(sequence)):
            self._accept(started, logits)

    def _accept(self, sequence: Sequence, logits: Logits) -> None:
        request = sequence.request
        piece = sequence.generation.accept(logits[: self._active_vocab_size])
        request.meter.drew()
        self._generated_tokens += 1
        if piece.text or piece.finish or piece.logprobs:
            request.emit(TokenEvent(sequence.choice, piece))
        if sequence.generation.finished:
            self._scheduler.finish(sequence)
        if request.finished:
            self._cached_tokens += request.meter.cached_tokens
            request.emit(Finished(request.meter.usage()))

    def _fail_running(self, error: EngineError) -> None:
        for request in {sequence.request: None for sequence in self._scheduler.running}:
            self._scheduler.drop(request)
            request.emit(error)

    @contextmanager
    def _library(self) -> "Iterator[_Elapsed]":
        elapsed = _Elapsed()
        yield elapsed
        elapsed.stop()
        self._library_seconds += elapsed()


class _Elapsed:
    """Seconds between creation and stop."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds = 0.0

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._started

    def __call__(self) -> float:
        return self._seconds


def _number(sequence: Sequence) -> int:
    assert sequence.number is not None
    return sequence.number
