"""What Prometheus gets."""

import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.hardware.device import temperature_c, throttling
from tests.daemon.daemons import LONG, SHORT, Daemon, started, wait_until
from tests.daemon.raw import connection, post

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
CHAT = {"route": "/v1/chat/completions", "status": "200"}


def samples(daemon: Daemon) -> Samples:
    families = text_string_to_metric_families(daemon.get("metrics").text)
    return {
        (sample.name.removeprefix("mlc_edge_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str):
    return found.get((name, tuple(sorted(labels.items()))), 0)


def counted(found: Samples) -> float:
    """Requests, but for those for metrics."""
    return sum(
        value
        for (name, labels), value in found.items()
        if name == "requests_total" and ("route", "/metrics") not in labels
    )


def samples_after(daemon: Daemon, before: Samples, requests: int) -> Samples:
    """With so many requests more, which are counted when their clients have the answers already."""
    wait_until(lambda: counted(samples(daemon)) >= counted(before) + requests)
    return samples(daemon)


def test_an_answer_is_counted(daemon: Daemon):
    before = samples(daemon)
    usages = [daemon.ask(json={**SHORT, "seed": 1}).json()["usage"] for _ in range(2)]
    assert daemon.ask(json={**SHORT, "stream": True}).status_code == 200
    found = samples_after(daemon, before, 3)

    def grown(name: str, **labels: str) -> float:
        return value(found, name, **labels) - value(before, name, **labels)

    assert grown("requests_total", **CHAT) == 3
    assert grown("time_to_first_token_seconds_count") == 3
    assert grown("time_per_output_token_seconds_count") == 3
    assert grown("generated_tokens_total") == 3 * usages[0]["completion_tokens"]
    assert grown("prompt_tokens_total") == 3 * usages[0]["prompt_tokens"]
    cached = usages[1]["prompt_tokens_details"]["cached_tokens"]
    assert 0 < 2 * cached <= grown("cached_prompt_tokens_total")
    assert grown("engine_steps_total") > 0


def test_an_idle_engine_is_empty(daemon: Daemon):
    # What other tests left may still end.
    wait_until(lambda: daemon.metric("running_sequences") == daemon.metric("active_requests") == 0)
    found = samples(daemon)
    assert value(found, "ready") == 1
    for name in ("active_requests", "running_sequences", "waiting_sequences"):
        assert (name, ()) in found
        assert value(found, name) == 0
    assert 0 <= found["kv_cache_usage_ratio", ()] < 1
    assert value(found, "kv_cache_tokens") >= 1024
    for name in ("preemptions_total", "throttled", "process_resident_memory_bytes"):
        assert (name, ()) in found


def test_durations_are_those_that_answers_report(daemon: Daemon):
    before = samples(daemon)
    asked = ({**SHORT, "max_tokens": tokens, "ignore_eos": True} for tokens in (1, 2, 9, 30))
    usages = [daemon.ask(json=body).json()["usage"] for body in asked]
    found = samples_after(daemon, before, len(usages))
    first = [usage["extra"]["time_to_first_token_s"] for usage in usages]
    each = [
        (usage["extra"]["e2e_latency_s"] - first_s) / (usage["completion_tokens"] - 1)
        for usage, first_s in zip(usages, first, strict=True)
        if usage["completion_tokens"] > 1
    ]
    for name, durations in (("time_to_first_token", first), ("time_per_output_token", each)):
        name = f"{name}_seconds"
        grown = {
            part: value(found, f"{name}_{part}") - value(before, f"{name}_{part}")
            for part in ("sum", "count")
        }
        assert grown == {"sum": pytest.approx(sum(durations)), "count": len(durations)}
        for bound in ("0.01", "0.1", "1.0"):
            under = [value(when, f"{name}_bucket", le=bound) for when in (before, found)]
            assert under[1] - under[0] == sum(seconds <= float(bound) for seconds in durations)


def test_the_engines_time_and_tokens(daemon: Daemon):
    before, start = samples(daemon), time.monotonic()
    # Another prompt than any before: nothing of it is in the cache.
    body = {**SHORT, "messages": [{"role": "user", "content": f"{time.time_ns()} is a number."}]}
    usages = [daemon.ask(json=body).json()["usage"] for _ in range(2)]
    found = samples_after(daemon, before, len(usages))
    elapsed = time.monotonic() - start

    def grown(name: str) -> float:
        return value(found, f"{name}_total") - value(before, f"{name}_total")

    for name, key in (
        ("prompt_tokens", "prompt_tokens"),
        ("generated_tokens", "completion_tokens"),
    ):
        assert grown(name) == sum(usage[key] for usage in usages)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert grown("cached_prompt_tokens") == cached > 0
    # Prompts of one chunk and answers of 8 tokens: a step for each token, and few others.
    assert 14 <= grown("engine_steps") <= 24
    assert 0 < grown("engine_overhead_seconds") < grown("engine_step_seconds") < elapsed
    assert grown("preemptions") == 0


def test_gauges_tell_what_runs_and_waits(bundle: Path):
    with started(bundle, "--max-batch", 2, "--max-queue", 5) as daemon:
        choices = (1, 1, 1, 1, 3)
        bodies = [{**LONG, "n": n, "temperature": 1, "seed": i} for i, n in enumerate(choices)]
        with ExitStack() as stack:
            # They come at once, however long sending them takes: the first ones end soon.
            daemon.signal(signal.SIGSTOP)
            for body in bodies:
                stack.enter_context(connection(daemon, post(body)))
            daemon.signal(signal.SIGCONT)
            seen: list[Samples] = []

            def is_full() -> bool:
                seen.append(samples(daemon))
                return value(seen[-1], "waiting_sequences") == 5

            wait_until(is_full)
            found = seen[-1]
            assert (value(found, "active_requests"), value(found, "running_sequences")) == (5, 2)
            total = value(found, "kv_cache_tokens")
            longest = daemon.get("bundles/index.json").json()["daemon"]["models"][0]
            # Pages of the two that run, and the prefixes of nobody.
            used = value(found, "kv_cache_usage_ratio") * total
            assert 20 < used < 2 * longest["context_window_size"] <= total
        wait_until(lambda: daemon.metric("active_requests") == 0)
        daemon.ask(json={**SHORT, "max_tokens": 200, "ignore_eos": True})
        kept = daemon.metric("prefix_cached_tokens")
        assert kept > 64
        assert daemon.metric("kv_cache_usage_ratio") * total == pytest.approx(kept, abs=64)


def test_the_process_and_the_device(daemon: Daemon):
    found = samples(daemon)
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    resident = int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) << 10
    assert value(found, "process_resident_memory_bytes") == pytest.approx(resident, rel=0.2)
    reasons = throttling()
    assert value(found, "throttled") == float(bool(reasons))
    named = {labels[0][1] for name, labels in found if name == "throttling"}
    assert named == set(reasons)
    measured = temperature_c()
    assert (("temperature_celsius", ()) in found) == (measured is not None)


def test_each_refusal_is_counted_with_its_status(daemon: Daemon):
    chat = "/v1/chat/completions"
    before = samples(daemon)
    for body, status in ((b"{", 400), (b"[]", 422), (b"{}", 400)):
        headers = {"content-type": "application/json"}
        assert daemon.ask(content=body, headers=headers).status_code == status
    assert daemon.get("v1/chat/completions").status_code == 405
    found = samples_after(daemon, before, 4)
    for status, count in (("400", 2), ("422", 1), ("405", 1), ("200", 0), ("500", 0)):
        label = {"route": chat, "status": status}
        grown = value(found, "requests_total", **label) - value(before, "requests_total", **label)
        assert grown == count
    for name in ("time_to_first_token_seconds_count", "time_per_output_token_seconds_count"):
        assert value(found, name) == value(before, name)


def test_refusals_are_counted_under_few_routes(daemon: Daemon, http: httpx.Client):
    before, paths = samples(daemon), ("/v1/one", "/v1/two", "/three", "/v1/models/four")
    for path in paths:
        assert http.get(path).status_code == 404
    found = samples_after(daemon, before, len(paths))
    assert value(found, "requests_total", route="/v1/*", status="404") >= 2
    assert value(found, "requests_total", route="/v1/models/{id}", status="404") >= 1
    assert not any(word in str(found) for word in ("/v1/one", "three", "four"))


def test_text_format(daemon: Daemon):
    response = daemon.get("metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name for family in text_string_to_metric_families(response.text)}
    assert {"mlc_edge_time_to_first_token_seconds", "mlc_edge_requests"} <= families
