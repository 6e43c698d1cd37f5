"""What Prometheus scrapes."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge.daemon.model import ServedModel
from edge.hardware.device import temperature_c, throttling
from mlc_edge.engine import EngineStats

PREFIX = "mlc_edge_"
FIRST_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)


class Metrics:
    """Counts of this process, in a registry of its own."""

    def __init__(self, model: ServedModel) -> None:
        # Series of their own for the time of each counter's first count: of no use here.
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}requests",
            "HTTP requests that ended, by route and status (499: the client left).",
            ["route", "status"],
            registry=self._registry,
        )
        self._first_token = Histogram(
            f"{PREFIX}time_to_first_token_seconds",
            "From a request's arrival at the engine to the first token of any of its choices.",
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=self._registry,
        )
        self._token = Histogram(
            f"{PREFIX}time_per_output_token_seconds",
            "(End - first token) / (tokens - 1) of a request; tokens of all its choices.",
            buckets=TOKEN_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_ModelCollector(model))
        self._registry.register(_DeviceCollector())
        ProcessCollector(registry=self._registry)

    def count(self, route: str, status: int, usage: dict[str, Any] | None) -> None:
        """A request has ended; `usage` as in OpenAI's objects, None if it got no answer."""
        self._requests.labels(route, str(status)).inc()
        extra = (usage or {}).get("extra") or {}
        first_s, total_s = extra.get("time_to_first_token_s"), extra.get("e2e_latency_s")
        if not usage or first_s is None:
            return
        self._first_token.observe(first_s)
        tokens = usage["completion_tokens"]
        if tokens > 1 and total_s is not None:
            self._token.observe(max(0.0, total_s - first_s) / (tokens - 1))

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _ModelCollector(Collector):
    """Reads the engine's own counts when they are asked for."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def collect(self) -> Iterable[Metric]:
        ready = float(self._model.state == "ready")
        yield _gauge("ready", "Whether requests are taken.", ready)
        stats = self._model.stats()
        if stats is None:
            return
        yield _gauge(
            "active_requests", "Requests that the engine has not finished.", stats.requests
        )
        yield _gauge(
            "running_sequences", "Sequences (choices of requests) in the batch.", stats.running
        )
        yield _gauge(
            "waiting_sequences",
            "Sequences (choices of requests) that wait for a place in the batch.",
            stats.waiting,
        )
        yield _gauge(
            "kv_cache_usage_ratio",
            "Used share of the KV cache, 0 to 1; prefixes kept for later, which give way, included.",
            stats.kv_tokens_used / max(1, stats.kv_tokens_total),
        )
        yield _gauge("kv_cache_tokens", "Tokens that fit in the KV cache.", stats.kv_tokens_total)
        yield _gauge(
            "prefix_cached_tokens",
            "Tokens in the KV cache of sequences that don't run, kept for later ones.",
            stats.prefix_cached_tokens,
        )
        yield from _counters(stats)


def _counters(stats: EngineStats) -> Iterator[Metric]:
    yield _counter("prompt_tokens", "Tokens of prompts.", stats.prompt_tokens)
    cached = stats.cached_prompt_tokens
    yield _counter("cached_prompt_tokens", "Tokens of prompts found in the KV cache.", cached)
    yield _counter("generated_tokens", "Tokens of answers.", stats.generated_tokens)
    yield _counter(
        "preemptions",
        "Times that a sequence was set back, for lack of cache or for others' turn in the batch.",
        stats.preemptions,
    )
    yield _counter("engine_steps", "Steps of the engine.", stats.steps)
    yield _counter("engine_step_seconds", "Time in the engine's steps.", stats.step_seconds)
    overhead = stats.overhead_seconds
    yield _counter(
        "engine_overhead_seconds", "Time in the engine's steps outside of the model.", overhead
    )


class _DeviceCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        temperature = temperature_c()
        if temperature is not None:
            yield _gauge("temperature_celsius", "Temperature of the hottest sensor.", temperature)
        reasons = throttling()
        yield _gauge("throttled", "Whether the board slows itself down.", float(bool(reasons)))
        causes = GaugeMetricFamily(
            f"{PREFIX}throttling", "Why the board slows itself down.", labels=["reason"]
        )
        for reason in reasons:
            causes.add_metric([reason], 1)
        yield causes


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}{name}", text, value=value)
