"""The engine's inner loop: one step after the other, on one thread."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np

from mlc_edge.engine.config import EngineConfig, cache_sizes
from mlc_edge.engine.kv_cache import PAGE_TOKENS, KVCache
from mlc_edge.engine.prefill_pace import PrefillPace
from mlc_edge.engine.request import Event, Finished, Request, Sequence
from mlc_edge.engine.sampler import Logits, Sample, sample_rows
from mlc_edge.engine.scheduler import Limits, Scheduler
from mlc_edge.engine.self_test import self_test
from mlc_edge.engine.stats import EngineStats, measure
from mlc_edge.errors import EngineError
from mlc_edge.model_runner import ModelRunner

logger = logging.getLogger(__name__)
FLOAT_BYTES = 4
# Logits after all tokens of a prompt, where they are wanted, may take so much memory.
SCORED_BYTES = 64 << 20


class EngineLoop:
    """Computes what the scheduler says and gives logits to the sequences.

    What goes wrong with a request ends that request. What goes wrong with the library ends the requests
    whose sequences were in it; those that wait go on.
    """

    def __init__(self, runner: ModelRunner, config: EngineConfig, active_vocab_size: int) -> None:
        """Create the KV cache; raises EngineError out_of_memory if there is no room for one."""
        sizes = cache_sizes(config, runner)
        runner.create_cache(sizes)
        self.batch_size = sizes.sequences
        self._runner = runner
        self._active_vocab_size = active_vocab_size
        self._pace = PrefillPace(sizes.prefill_chunk)
        self._cache = KVCache(runner)
        scored = SCORED_BYTES // (FLOAT_BYTES * active_vocab_size)
        limits = Limits(sizes.sequences, sizes.prefill_chunk, scored)
        self._scheduler = Scheduler(self._cache, limits)
        self.capacity = (self._cache.total_pages - 1) * PAGE_TOKENS
        self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0
        self._steps = 0
        self._step_seconds = self._library_seconds = 0.0
        self._load = measure(self._scheduler, self._cache)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._scheduler.idle

    def submit(self, request: Request) -> None:
        """Queue a request."""
        self._prompt_tokens += request.meter.prompt_tokens
        self._scheduler.submit(request)
        if request.is_aborted:
            self.abort(request)
        self._load = measure(self._scheduler, self._cache)

    def cancel(self, request: Request) -> None:
        """Forget a request and free its pages."""
        self._scheduler.drop(request)
        self._load = measure(self._scheduler, self._cache)

    def abort(self, request: Request) -> None:
        """End a request early: its choices finish with "abort" and what they have so far."""
        request.is_aborted = True
        if request not in self._scheduler:
            return
        self._scheduler.drop(request)
        for sequence in request.sequences:
            if not sequence.generation.finished:
                self._emit(request, sequence.generation.end("abort"))
        self._emit(request, Finished(request.meter.usage()))
        self._load = measure(self._scheduler, self._cache)

    def fail_all(self, error: EngineError) -> None:
        """Give every request this error."""
        for request in self._scheduler.requests:
            self._emit(request, error)

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
            for request in {sequence.request for sequence in self._scheduler.running}:
                self._fail(request, error)
        except Exception:
            logger.exception("a step of the model's library failed")
            self._begin_anew()
        self._load = measure(self._scheduler, self._cache)
        self._steps += 1
        self._step_seconds += time.perf_counter() - started

    def stats(self) -> EngineStats:
        """A snapshot; may be taken on any thread, as the cache and its library may not."""
        load = self._load
        return EngineStats(
            **asdict(load),
            prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=self._scheduler.preemptions,
            steps=self._steps,
            step_seconds=self._step_seconds,
            overhead_seconds=self._step_seconds - self._library_seconds,
            parameter_bytes=self._runner.parameter_bytes,
            kv_cache_bytes=load.kv_tokens_total * self._runner.kv_bytes_per_token,
            target=self._runner.target,
            threads=self._runner.threads,
        )

    def _begin_anew(self) -> None:
        """Empty the KV cache, whose state is unknown; requests that were in it get an error."""
        self._runner.reset()
        self._cache = KVCache(self._runner)
        failure = EngineError("internal", "The engine failed.", "Its log says why.")
        for request in self._scheduler.begin_anew(self._cache):
            self._emit(request, failure)

    def _prefill(self) -> None:
        answers_run = any(sequence.decodes for sequence in self._scheduler.running)
        runs = self._scheduler.prefills(self._pace.tokens(answers_run=answers_run))
        if not runs:
            return
        scored = runs[0][0] if runs[0][0].scores_prompt else None
        with self._library() as took:
            if scored:
                logits = self._runner.verify(_number(scored), runs[0][1])
            else:
                logits = self._runner.prefill(
                    [_number(sequence) for sequence, _ in runs], [run for _, run in runs]
                )
        self._pace.measured(sum(len(run) for _, run in runs), took())
        for request in {sequence.request for sequence, _ in runs}:
            request.meter.prefill_s += took()
        if scored:
            self._score(scored, logits)
            logits = logits[-1:]
        for sequence, run in runs:
            self._scheduler.computed(sequence, run)
        self._draw([sequence for sequence, _ in runs], logits)

    def _score(self, sequence: Sequence, logits: Logits) -> None:
        """Note the log probabilities of a prompt's tokens; `logits` [n, V] are those of a run."""
        try:
            sequence.generation.score(sequence.computed, logits[:, : self._active_vocab_size])
        except Exception as error:
            self._fail(sequence.request, error)

    def _decode(self) -> None:
        ready = self._scheduler.decodes()
        if not ready:
            return
        with self._library() as took:
            logits = self._runner.decode(
                [_number(sequence) for sequence in ready],
                [sequence.tokens[sequence.computed] for sequence in ready],
            )
        for request in {sequence.request for sequence in ready}:
            request.meter.decode_s += took()
        for sequence in ready:
            self._scheduler.computed(sequence, [sequence.tokens[sequence.computed]])
            sequence.request.meter.decoded_tokens += 1
        self._draw(ready, logits)

    def _draw(self, sequences: list[Sequence], logits: Logits) -> None:
        """The next token of those that are complete, and the first one of their siblings."""
        drawing: list[Sequence] = []
        rows: list[int] = []
        for row, sequence in enumerate(sequences):
            if sequence.is_complete:
                both = (sequence, *self._scheduler.fork_siblings(sequence))
                drawing += both
                rows += [row] * len(both)
        if not drawing:
            return
        wanted = logits if rows == list(range(len(logits))) else logits[np.array(rows)]
        samplers = [sequence.generation.sampler for sequence in drawing]
        samples = sample_rows(samplers, wanted[:, : self._active_vocab_size])
        for sequence, sample in zip(drawing, samples, strict=True):
            self._accept(sequence, sample)

    def _accept(self, sequence: Sequence, sample: Sample | EngineError) -> None:
        request = sequence.request
        if request not in self._scheduler:
            return
        try:
            if isinstance(sample, EngineError):
                raise sample
            event = sequence.generation.accept(sample)
        except Exception as error:
            self._fail(request, error)
            return
        if sequence.generation.length:
            request.meter.drew()
            self._generated_tokens += 1
        if event.text or event.finish or event.logprobs:
            self._emit(request, event)
        if sequence.generation.finished:
            self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        self._scheduler.finish(sequence)
        request = sequence.request
        if request.finished:
            self._cached_tokens += request.meter.cached_tokens
            self._emit(request, Finished(request.meter.usage()))

    def _fail(self, request: Request, error: Exception) -> None:
        """End a request; the others don't notice."""
        if not isinstance(error, EngineError):
            logger.error("request %s failed", request.id, exc_info=error)
            error = EngineError("internal", "The engine failed.", "Its log says why.")
        self._scheduler.drop(request)
        self._emit(request, error)

    def _emit(self, request: Request, event: Event) -> None:
        try:
            request.emit(event)
        except Exception:
            logger.exception("request %s can't be told of its answer", request.id)
            self._scheduler.drop(request)

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
