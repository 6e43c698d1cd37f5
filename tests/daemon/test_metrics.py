"""What Prometheus gets."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.daemons import SHORT, Daemon

CHAT = {"route": "/v1/chat/completions", "status": "200"}


def samples(daemon: Daemon) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(daemon.get("metrics").text)
    return {
        (sample.name.removeprefix("mlc_edge_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str):
    return found.get((name, tuple(sorted(labels.items()))), 0)


def test_an_answer_is_counted(daemon: Daemon):
    before = samples(daemon)
    usages = [daemon.ask(json={**SHORT, "seed": 1}).json()["usage"] for _ in range(2)]
    assert daemon.ask(json={**SHORT, "stream": True}).status_code == 200
    after = samples(daemon)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("requests_total", **CHAT) == 3
    assert grown("time_to_first_token_seconds_count") == 3
    assert grown("time_per_output_token_seconds_count") == 3
    assert grown("generated_tokens_total") == 3 * usages[0]["completion_tokens"]
    assert grown("prompt_tokens_total") == 3 * usages[0]["prompt_tokens"]
    cached = usages[1]["prompt_tokens_details"]["cached_tokens"]
    assert 0 < 2 * cached <= grown("cached_prompt_tokens_total")
    assert grown("engine_steps_total") > 0


def test_an_idle_engine_is_empty(daemon: Daemon):
    found = samples(daemon)
    assert value(found, "ready") == 1
    for name in ("running_requests", "queue_length"):
        assert (name, ()) in found
        assert value(found, name) == 0
    assert 0 <= found["kv_cache_usage_ratio", ()] < 1
    assert value(found, "kv_cache_tokens") >= 1024
    for name in ("preemptions_total", "throttled", "process_resident_memory_bytes"):
        assert (name, ()) in found


def test_refusals_are_counted_under_few_routes(daemon: Daemon, http: httpx.Client):
    for path in ("/v1/one", "/v1/two", "/three", "/v1/models/four"):
        assert http.get(path).status_code == 404
    found = samples(daemon)
    assert value(found, "requests_total", route="/v1/*", status="404") >= 2
    assert value(found, "requests_total", route="/v1/models/{id}", status="404") >= 1
    assert not any(word in str(found) for word in ("/v1/one", "three", "four"))


def test_text_format(daemon: Daemon):
    response = daemon.get("metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name for family in text_string_to_metric_families(response.text)}
    assert {"mlc_edge_time_to_first_token_seconds", "mlc_edge_requests"} <= families
