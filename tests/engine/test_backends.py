"""Which backend is used, why others aren't, and what is told before anything is downloaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from starlette.staticfiles import StaticFiles

from tests.browser import EnginePage, engine_page
from tests.engine.test_load import FULL_AT_BUFFER_9, compute_wrong, edit_lock
from tests.web.serving import serving

FIRST = "lib/webgpu-first.wasm"


@pytest.fixture
def several(damaged: Path) -> Path:
    """Half precision, which SwiftShader lacks; kernels that compute wrong; and good ones."""
    (damaged / FIRST).write_bytes((damaged / "lib/webgpu-software-f32.wasm").read_bytes())
    compute_wrong(damaged / FIRST)
    lock = json.loads((damaged / "mlc-lock.json").read_text())
    good = lock["targets"]["webgpu-software-f32"]
    needs = {"features": ["shader-f16"], "limits": {}}
    targets = {
        "webgpu-first": {**good, "library": FIRST},
        "webgpu-f32": good,
        "webgpu-f16": {**good, "needs": needs},
    }
    entry = {"path": FIRST, "bytes": 0, "sha256": ""}
    edit_lock(damaged, FIRST, files=[*lock["files"], entry], targets=targets)
    return damaged


TRIED = [
    ("wasm", None, "adapter_unsuitable"),
    ("webgpu-f16", "webgpu-f16", "adapter_unsuitable"),
    ("webgpu-f32", "webgpu-first", "self_test_failed"),
]


def told(left: list[dict[str, Any]]) -> list[tuple[str, str | None, str]]:
    return [(entry["kind"], entry["target"], entry["code"]) for entry in left]


def test_each_backend_that_is_left_is_told_with_its_reason(
    fresh: EnginePage, several: Path
) -> None:
    model = fresh.load("damaged")
    backend = fresh.run("() => engine.backend")
    assert model["backend"] == backend
    assert (backend["kind"], backend["target"], backend["origin"]) == (
        "webgpu-f32",
        "webgpu-f32",
        None,
    )
    assert backend["adapter"]["isSoftware"] and "on the CPU" in backend["reason"]
    assert told(backend["tried"]) == TRIED
    assert "shader-f16" in backend["tried"][1]["reason"]
    assert "computes wrong results" in backend["tried"][2]["reason"]
    events = [event for event in fresh.events() if event["kind"] == "backend"]
    assert told([event["left"] for event in events[:-1]]) == TRIED
    assert events[-1]["state"] == "chosen" and events[-1]["chosen"] == backend
    fresh.run("() => engine.unload()")
    assert fresh.run("() => engine.backend") is None


def test_only_the_listed_backends_are_tried(fresh: EnginePage, several: Path) -> None:
    failed = fresh.run(
        """() => engine.load("bundles/damaged/", { backends: ["wasm", "webgpu-f16"] }).then(
          () => null, ({ code, message, tried }) => ({ code, message, tried }))"""
    )
    assert failed["code"] == "adapter_unsuitable" and "shader-f16" in failed["message"]
    assert told(failed["tried"]) == TRIED[:2]
    assert fresh.run("() => engine.backend") is None


def test_a_gpu_without_room_is_not_tried_with_another_target(
    browser: Browser, site_url: str, several: Path
) -> None:
    with engine_page(browser, site_url, before_worker=FULL_AT_BUFFER_9) as page:
        failed = page.run(
            """() => engine.load("bundles/damaged/").then(
              () => null, ({ code, tried }) => ({ code, tried }))"""
        )
    assert failed["code"] == "out_of_memory"
    assert [code for _, _, code in told(failed["tried"])][2:] == ["out_of_memory", "out_of_memory"]


CAPABILITIES = """async (model) => {
  const { capabilities } = await import(new URL("client.js", location.href));
  const start = performance.now();
  const [report] = await capabilities({ workerURL: "worker.js", model });
  return { report, ms: performance.now() - start };
}"""


def test_what_would_run_is_told_before_weights_are_downloaded(
    browser: Browser, site: Path, bundles: Path
) -> None:
    with serving(StaticFiles(directory=site)) as host, engine_page(browser, host.url) as page:
        before = page.run(CAPABILITIES, "bundles/tiny-q0f32/")["report"]
        assert not [seen.path for seen in host.network.seen if "params" in seen.path]
        page.load("tiny-q0f32")
        params = {"max_tokens": 24, "ignore_eos": True}
        hello = [{"role": "user", "content": "Hi"}]
        answers = [page.complete(messages=hello, **params) for _ in range(5)]
        after = page.run("() => engine.capabilities({ model: 'bundles/tiny-q0f32/' })")[0]
    assert before["id"] == "tiny-q0f32" and before["fits"]
    assert before["backend"]["kind"] == "webgpu-f32" and before["backend"]["adapter"]["isSoftware"]
    assert told(before["backend"]["tried"]) == [
        TRIED[0],
        ("webgpu-f16", None, "adapter_unsuitable"),
    ]
    assert before["missingBytes"] > 0.9 * before["downloadBytes"] > 0
    assert after["missingBytes"] == 0 and after["downloadBytes"] == before["downloadBytes"]
    for speed in (before["speed"], after["speed"]):
        assert speed["low"] < speed["tokensPerSecond"] < speed["high"]
        assert speed["bytesPerSecond"] > 0 and speed["launchSeconds"] > 0
    # Other programs may slow either down: the fastest of several tells most of this one.
    measured = max(answer["usage"]["extra"]["decode_tokens_per_s"] for answer in answers)
    fastest = max(before["speed"], after["speed"], key=lambda speed: speed["tokensPerSecond"])
    assert fastest["low"] / 3 < measured < fastest["high"] * 3


def test_all_models_of_a_site_are_told_also_those_that_are_broken(
    fresh: EnginePage, bundles: Path, damaged: Path
) -> None:
    entries = [{"id": "tiny-q0f32"}, {"id": "damaged"}, {"id": "missing"}]
    (bundles / "index.json").write_text(json.dumps({"bundles": entries}))
    edit_lock(damaged, targets={})
    try:
        reports = fresh.run("() => engine.capabilities({ baseURL: '.', measure: false })")
    finally:
        (bundles / "index.json").unlink()
    assert [report["id"] for report in reports] == [entry["id"] for entry in entries]
    assert [report["fits"] for report in reports] == [True, False, False]
    assert [report["problems"][0]["code"] for report in reports[1:]] == [
        "bundle_invalid",
        "network_error",
    ]
    assert reports[0]["speed"] is None
