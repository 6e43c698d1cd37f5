"""Measures the engine under load, and a fresh process from start to first token."""

import asyncio
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.hardware.device import probe, profile
from mlc_edge import AsyncMLCEngine, EngineConfig
from mlc_edge.bundle import read_lock
from mlc_edge.compiled import PACKAGES
from mlc_edge.cpu import host_cpu
from mlc_edge.cuda.driver import find_gpu
from mlc_edge.devices import DeviceChoice
from mlc_edge.errors import ConfigError
from mlc_edge.version import __version__
from mlc_edge.vulkan.device import find_adapter

SEED = 0
# How tokens are drawn costs time of its own, which grows with the vocabulary.
SAMPLINGS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "nucleus": {"temperature": 0.7, "top_p": 0.9},
}
# Special tokens come first in most vocabularies.
LOWEST_ID = 8


@dataclass(frozen=True, kw_only=True)
class LoadTest:
    """What to measure, of a bundle that may run, on a device as EngineConfig names it.

    `threads` None for the machine's own.
    """

    bundle: Path
    device: str
    target: str | None
    concurrency: tuple[int, ...]
    prompt_tokens: int
    max_tokens: int
    repeats: int
    threads: int | None


@dataclass(frozen=True)
class Answered:
    """One request: times in seconds from its start, and the number of tokens."""

    first_token_s: float
    last_token_s: float
    tokens: int
    prefill_tokens_per_s: float | None

    @property
    def time_per_output_token_s(self) -> float:
        """(last - first token time) / (n - 1)."""
        return (self.last_token_s - self.first_token_s) / (self.tokens - 1)


def run(plan: LoadTest) -> dict[str, Any]:
    """All measurements, as they are printed with --json."""
    rows, facts = asyncio.run(_measure(plan))
    return {
        "model": asdict(read_lock(plan.bundle).model),
        "device": {"cpu": host_cpu().model, "arch": host_cpu().arch, **facts},
        "versions": {
            "mlc-edge": __version__,
            "apache-tvm": importlib.metadata.version("apache-tvm"),
            "python": platform.python_version(),
        },
        "prompt_tokens": plan.prompt_tokens,
        "max_tokens": plan.max_tokens,
        "repeats": plan.repeats,
        "concurrency": rows,
        "fresh_process": measure_fresh_process(plan),
    }


def engine_config(plan: LoadTest) -> EngineConfig:
    """The engine with this machine's threads, or those that were asked for."""
    threads = profile(probe())
    return EngineConfig(
        mode="server",
        device=plan.device,
        target=plan.target,
        prefill_threads=plan.threads or threads.prefill_threads,
        decode_threads=plan.threads or threads.decode_threads,
    )


async def _measure(plan: LoadTest) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    engine = AsyncMLCEngine(plan.bundle, engine_config(plan), trust_library=True)
    try:
        window = engine.model.context_window_size
        if plan.prompt_tokens + plan.max_tokens > window:
            raise ConfigError(
                f"{plan.prompt_tokens} tokens of prompt and {plan.max_tokens} of answer exceed the "
                f"model's context of {window}: ask for fewer."
            )
        prompts = _Prompts(engine, plan.prompt_tokens)
        await _round(engine, prompts, 1, plan, "greedy")
        rows = [
            await _row(engine, prompts, count, plan, sampling)
            for count in plan.concurrency
            for sampling in SAMPLINGS
        ]
        stats = engine.stats()
        facts = {"target": stats.target, "threads": asdict(stats.threads)}
        return rows, {"adapter": _adapter(plan, stats.target), **facts}
    finally:
        await engine.close()


def _adapter(plan: LoadTest, target: str) -> str | None:
    """The GPU's name; None if the CPU computed."""
    index = DeviceChoice.parse(plan.device).index
    if target.startswith("cuda"):
        return find_gpu(index).name
    return find_adapter(index).name if target.startswith("vulkan") else None


class _Prompts:
    """Random token ids, never the same twice: no prompt finds another one's in the cache."""

    def __init__(self, engine: AsyncMLCEngine, length: int) -> None:
        self._random = np.random.default_rng(SEED)
        self._length = length
        self._size = engine.vocab_size

    def next(self) -> list[int]:
        """The ids of a prompt."""
        ids: list[int] = self._random.integers(LOWEST_ID, self._size, self._length).tolist()
        return ids


async def _row(
    engine: AsyncMLCEngine, prompts: _Prompts, count: int, plan: LoadTest, sampling: str
) -> dict[str, Any]:
    before = engine.stats()
    answers: list[Answered] = []
    seconds = 0.0
    for _ in range(plan.repeats):
        started = time.perf_counter()
        answers += await _round(engine, prompts, count, plan, sampling)
        seconds += time.perf_counter() - started
    after = engine.stats()
    steps = after.steps - before.steps
    step_s = after.step_seconds - before.step_seconds
    overhead_s = after.overhead_seconds - before.overhead_seconds
    return {
        "requests_at_once": count,
        "sampling": SAMPLINGS[sampling],
        "ttft_s": _percentiles([answer.first_token_s for answer in answers]),
        "tpot_s": _percentiles([answer.time_per_output_token_s for answer in answers]),
        "output_tokens_per_s": sum(answer.tokens for answer in answers) / seconds,
        "prefill_tokens_per_s": _median([answer.prefill_tokens_per_s for answer in answers]),
        "overhead_share": overhead_s / step_s,
        "step_s": step_s / steps,
    }


async def _round(
    engine: AsyncMLCEngine, prompts: _Prompts, count: int, plan: LoadTest, sampling: str
) -> list[Answered]:
    """`count` requests at once."""
    params = {"max_tokens": plan.max_tokens, "seed": SEED, **SAMPLINGS[sampling]}
    asked = [_ask(engine, prompts.next(), params) for _ in range(count)]
    return list(await asyncio.gather(*asked))


async def _ask(engine: AsyncMLCEngine, prompt: list[int], params: dict[str, Any]) -> Answered:
    started = time.perf_counter()
    answer: Any = await engine.completions.create(prompt=prompt, ignore_eos=True, **params)
    extra = answer.usage.extra
    end = time.perf_counter() - started
    return Answered(
        extra.time_to_first_token_s or end,
        min(end, extra.e2e_latency_s),
        answer.usage.completion_tokens,
        extra.prefill_tokens_per_s,
    )


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95))}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def measure_fresh_process(plan: LoadTest) -> dict[str, float]:
    """A new process: seconds from its start to its first token, and its memory in bytes."""
    config = engine_config(plan)
    threads = str(config.prefill_threads)
    options = [str(plan.bundle.absolute()), plan.device, plan.target or "", threads]
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "edge.bench.fresh_process", *options, str(started)],
        cwd=PACKAGES,
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured
