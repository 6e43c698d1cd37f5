"""Loading in a browser: what is reported, and what is refused with which error."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, engine_page

STAGES = ["check", "download", "library", "upload", "pipelines", "self-test", "ready"]


def edit_lock(bundle: Path, path: str | None = None, **changes: object) -> None:
    """Change top-level fields, and make the lock agree with the file at `path`."""
    lock = json.loads((bundle / "mlc-lock.json").read_text())
    lock.update(changes)
    for entry in lock["files"]:
        if path and entry["path"] == path:
            content = (bundle / path).read_bytes()
            entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (bundle / "mlc-lock.json").write_text(json.dumps(lock))


def test_a_bundle_is_checked_then_loaded_with_progress(fresh: EnginePage) -> None:
    fit = fresh.run("() => engine.check('bundles/tiny-q0f32/')")
    assert fit["fits"] and fit["target"] == "webgpu-software-f32" and fit["problems"] == []
    assert fit["memoryBytes"] > 0 and fit["storage"]["quota"] > 0
    model = fresh.load("tiny-q0f32")
    assert model["id"] == "tiny-q0f32" and model["target"] == "webgpu-software-f32"
    assert model["contextWindowSize"] == 128 and model["vocabSize"] == 1024
    assert model["adapter"]["isSoftware"]
    events = [event for event in fresh.events() if event["kind"] == "progress"]
    stages = [event["stage"] for event in events]
    assert stages[0] == "check" and stages[-1] == "ready"
    assert set(stages) <= set(STAGES)
    loaded = [event["loadedBytes"] for event in events]
    assert loaded == sorted(loaded)
    assert loaded[-1] == events[-1]["totalBytes"] == fit["downloadBytes"]


def test_calls_without_a_model_fail_and_the_worker_stays_usable(fresh: EnginePage) -> None:
    failed = fresh.complete_failure(messages=[{"role": "user", "content": "Hi"}])
    assert failed["code"] == "model_not_loaded" and failed["remedy"]
    assert fresh.load_failure("missing")["code"] == "network_error"
    assert fresh.load("tiny-q0f32")["id"] == "tiny-q0f32"
    fresh.run("() => engine.unload()")
    failed = fresh.complete_failure(messages=[{"role": "user", "content": "Hi"}])
    assert failed["code"] == "model_not_loaded"


def test_an_invalid_lock_is_refused_with_all_its_problems(fresh: EnginePage, damaged: Path) -> None:
    edit_lock(damaged, model={"id": 3}, targets={})
    failed = fresh.load_failure("damaged")
    assert failed["code"] == "bundle_invalid"
    for part in ("model.id", "model.quantization", "targets"):
        assert part in failed["message"]


def test_another_abi_is_refused(fresh: EnginePage, damaged: Path) -> None:
    edit_lock(damaged, abi_version=99)
    assert fresh.load_failure("damaged")["code"] == "abi_mismatch"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("mlc-chat-config.json", b"{"),
        ("tokenizer.json", b"null"),
        ("tensor-cache.json", b"null"),
        ("lib/webgpu-software-f32.wasm", b"no library"),
        ("lib/webgpu-software-f32.wasm", b"\0asm\1\0\0\0"),
    ],
)
def test_files_of_another_form_are_refused_by_name(
    fresh: EnginePage, damaged: Path, path: str, content: bytes
) -> None:
    (damaged / path).write_bytes(content)
    edit_lock(damaged, path)
    failed = fresh.load_failure("damaged")
    assert failed["code"] == "bundle_invalid"
    assert path in failed["message"] and "build" in failed["remedy"]


def test_a_bundle_whose_configuration_is_none_is_not_checked_as_one_that_fits(
    fresh: EnginePage, damaged: Path
) -> None:
    (damaged / "mlc-chat-config.json").write_text('{"model_config": []}')
    edit_lock(damaged, "mlc-chat-config.json")
    failed = fresh.run("() => failure(() => engine.check('bundles/damaged/'))")
    assert failed["code"] == "bundle_invalid" and "model_config" in failed["message"]


def test_changed_weights_are_refused(fresh: EnginePage, damaged: Path) -> None:
    shard = damaged / "params_shard_0.bin"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    assert fresh.load_failure("damaged")["code"] == "integrity_error"


def test_an_unsuitable_adapter_is_named_before_the_download(
    fresh: EnginePage, damaged: Path
) -> None:
    lock = json.loads((damaged / "mlc-lock.json").read_text())
    target = lock["targets"]["webgpu-software-f32"]
    target["needs"] = {"features": ["shader-f16"], "limits": {"maxBufferSize": 2**50}}
    edit_lock(damaged, targets={"webgpu-software-f32": target})
    fit = fresh.run("() => engine.check('bundles/damaged/')")
    assert not fit["fits"] and fit["problems"][0]["code"] == "adapter_unsuitable"
    failed = fresh.load_failure("damaged")
    assert failed["code"] == "adapter_unsuitable"
    assert "shader-f16" in failed["message"] and "maxBufferSize" in failed["message"]


def compute_wrong(library: Path) -> None:
    """As many bytes of WGSL as before, but the products of matrices are added up wrong."""
    content = library.read_bytes()
    fused = re.compile(rb"(?<=fn )linear\w*_kernel\(.*?\0", re.DOTALL)
    changed = fused.sub(lambda m: m.group().replace(b"fma(", b"mix("), content)
    assert changed != content and len(changed) == len(content)
    library.write_bytes(changed)


def test_kernels_that_come_out_wrong_give_way_to_the_next(fresh: EnginePage, damaged: Path) -> None:
    library = damaged / "lib/webgpu-software-f32.wasm"
    wrong = library.with_name("webgpu-first.wasm")
    wrong.write_bytes(library.read_bytes())
    compute_wrong(wrong)
    lock = json.loads((damaged / "mlc-lock.json").read_text())
    good = lock["targets"]["webgpu-software-f32"]
    entry = {"path": "lib/webgpu-first.wasm", "bytes": 0, "sha256": ""}
    edit_lock(
        damaged,
        "lib/webgpu-first.wasm",
        files=[*lock["files"], entry],
        targets={"webgpu-first": {**good, "library": entry["path"]}, "webgpu-software-f32": good},
    )
    assert fresh.load("damaged")["target"] == "webgpu-software-f32"


def test_a_device_that_computes_wrong_is_refused(fresh: EnginePage, damaged: Path) -> None:
    compute_wrong(damaged / "lib/webgpu-software-f32.wasm")
    edit_lock(damaged, "lib/webgpu-software-f32.wasm")
    failed = fresh.load_failure("damaged")
    assert failed["code"] == "self_test_failed"
    assert "value" in failed["message"] and failed["remedy"]
    assert fresh.load("tiny-q0f32")["id"] == "tiny-q0f32"


def test_loading_can_be_aborted(fresh: EnginePage) -> None:
    failed = fresh.run(
        """() => {
          const controller = new AbortController();
          engine.onEvent(({ stage }) => stage === "download" && controller.abort());
          const { signal } = controller;
          return failure(() => engine.load("bundles/tiny-q0f32/", { signal }));
        }"""
    )
    assert failed["name"] == "AbortError"


def test_a_browser_without_webgpu_is_told_so(browser: Browser, site_url: str) -> None:
    without = "Object.defineProperty(WorkerNavigator.prototype, 'gpu', { get: () => undefined });"
    with engine_page(browser, site_url, before_worker=without) as page:
        failed = page.load_failure("tiny-q0f32")
    assert failed["code"] == "webgpu_unavailable"
    assert failed["remedy"]


FULL_AT_BUFFER_9 = """
let left = 9;
const pop = GPUDevice.prototype.popErrorScope;
GPUDevice.prototype.popErrorScope = async function () {
  const error = await pop.call(this);
  return --left === 0 ? new GPUOutOfMemoryError("no room") : error;
};"""


def test_too_little_memory_is_told_and_the_worker_stays_usable(
    browser: Browser, site_url: str, bundles: Path
) -> None:
    with engine_page(browser, site_url, before_worker=FULL_AT_BUFFER_9) as page:
        failed = page.load_failure("tiny-q0f32")
        assert failed["code"] == "out_of_memory"
        assert "no room" in failed["message"] and failed["remedy"]
        assert page.load("tiny-q0f32")["id"] == "tiny-q0f32"
