"""What the engine tells about itself."""

from dataclasses import dataclass

from mlc_edge.engine.kv_cache import PAGE_TOKENS, KVCache
from mlc_edge.engine.scheduler import Scheduler
from mlc_edge.model_runner import Threads


@dataclass(frozen=True, kw_only=True)
class Load:
    """What there was to do at the end of a step, and what the KV cache held; counts are tokens.

    `running` and `waiting` count sequences (choices of requests), `requests` those that aren't finished.
    """

    requests: int
    running: int
    waiting: int
    kv_tokens_used: int
    kv_tokens_total: int
    prefix_cached_tokens: int


@dataclass(frozen=True, kw_only=True)
class EngineStats(Load):
    """Counts and times in seconds since the engine's start.

    `overhead_seconds` is the part of `step_seconds` that was not spent in the model library.
    """

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


def measure(scheduler: Scheduler, cache: KVCache) -> Load:
    """The load at this moment; on the engine's thread."""
    return Load(
        requests=len(scheduler.requests),
        running=len(scheduler.running),
        waiting=scheduler.waiting,
        kv_tokens_used=cache.used_tokens,
        kv_tokens_total=cache.total_pages * PAGE_TOKENS,
        prefix_cached_tokens=cache.retained_tokens,
    )
