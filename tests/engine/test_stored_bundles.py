"""What the engine's worker keeps of bundles, and loads from there."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, build_bundle, engine_page, serving
from tests.engine.checkpoints import write_checkpoint
from tests.engine.test_load import edit_lock

PARTS = """async (change) => {
  const cache = await caches.open("mlc-edge-content-v1");
  for (const key of await cache.keys()) {
    const bytes = new Uint8Array(await (await cache.match(key)).arrayBuffer());
    if (bytes.length !== 131072) continue;
    await cache.put(key, new Response(bytes.fill(0x55)));
  }
}"""
OLD_STREAMS = """
delete ReadableStream.prototype.values;
delete ReadableStream.prototype[Symbol.asyncIterator];
"""

DENIED = """
const denied = async () => { throw new DOMException("denied", "SecurityError"); };
Object.defineProperty(navigator.locks, "request", { value: denied });
caches.open = denied;
"""
UNREADABLE = """
const match = Cache.prototype.match;
Cache.prototype.match = async function (key) {
  const found = await match.call(this, key);
  if (!globalThis.unreadable || !found || !/content\\/[0-9a-f]+\\/\\d+$/.test(key)) return found;
  const start = (controller) => controller.error(new TypeError("Failed to fetch"));
  return new Response(new ReadableStream({ start }));
};
"""


@pytest.fixture
def versions(bundles: Path) -> Iterator[Path]:
    """A copy of tiny-q0f32, served as `versions`, of which tests publish others."""
    folder = bundles / "versions"
    shutil.copytree(bundles / "tiny-q0f32", folder)
    yield folder
    shutil.rmtree(folder)


def publish(folder: Path, temperature: float) -> None:
    path = "generation_config.json"
    (folder / path).write_text(json.dumps({"temperature": temperature}))
    edit_lock(folder, path)


def states(page: EnginePage) -> list[str]:
    return [event["state"] for event in page.events() if event["kind"] == "storage"]


def stored(page: EnginePage) -> dict[str, dict]:
    return {bundle["id"]: bundle for bundle in page.run("() => engine.storage.list()")["bundles"]}


def test_a_stored_bundle_is_loaded_without_its_server_and_deleted(
    browser: Browser, site: Path, bundles: Path
) -> None:
    with ExitStack() as host, ExitStack() as client:
        page = client.enter_context(engine_page(browser, host.enter_context(serving(site))))
        # Looking leaves nothing behind.
        assert page.run("() => engine.check('bundles/tiny-q0f32/')")["fits"]
        assert stored(page) == {}
        cold = page.load("tiny-q0f32")
        kept = stored(page)["tiny-q0f32"]
        assert kept["storedBytes"] == kept["totalBytes"] and kept["offlineTargets"]
        assert page.run("() => engine.storage.estimate()")["usage"] > kept["totalBytes"]
        host.close()
        warm = page.load("tiny-q0f32")
        assert (warm["id"], warm["bytes"]) == (cold["id"], cold["bytes"])
        assert page.complete(messages=[{"role": "user", "content": "Hi"}], max_tokens=2)["choices"]
        freed = page.run("() => engine.storage.delete('bundles/tiny-q0f32/')")
        assert freed == {"freedBytes": kept["totalBytes"], "keptFiles": 0}
        assert page.run("() => engine.storage.list()") == {
            "bundles": [],
            "states": [],
            "leftovers": {"files": 0, "bytes": 0},
        }
        assert page.load_failure("tiny-q0f32")["code"] == "network_error"
        failed = page.run("() => failure(() => engine.storage.delete('bundles/tiny-q0f32/'))")
        assert failed["code"] == "invalid_request"


def test_an_update_is_used_by_the_next_load_once_it_is_stored(
    fresh: EnginePage, versions: Path
) -> None:
    publish(versions, 0.25)
    assert fresh.load("versions")["sampling"]["temperature"] == 0.25
    publish(versions, 0.75)
    assert fresh.load("versions")["sampling"]["temperature"] == 0.25
    fresh.page.wait_for_function("() => events.some(({ state }) => state === 'update-available')")
    event = next(event for event in fresh.events() if event.get("state") == "update-available")
    assert event["bundleUrl"].endswith("/bundles/versions/")
    assert event["neededBytes"] == (versions / "generation_config.json").stat().st_size
    assert fresh.load("versions")["sampling"]["temperature"] == 0.25
    fresh.run("({ bundleUrl }) => engine.storage.update(bundleUrl)", event)
    state = [{"role": "system", "content": "Hello"}]
    saved = fresh.run("(messages) => engine.saveState('x', messages)", state)
    assert fresh.run("() => engine.loadState('x')") == saved
    assert fresh.load("versions")["sampling"]["temperature"] == 0.75
    # What another version computed is of no use.
    assert fresh.run("() => engine.loadState('x')") is None
    assert stored(fresh)["tiny-q0f32"]["update"] is None


def test_a_version_that_is_neither_stored_nor_served_any_more_gives_way(
    fresh: EnginePage, versions: Path
) -> None:
    publish(versions, 0.25)
    fresh.load("versions")
    publish(versions, 0.75)
    fresh.run(
        """async () => {
          const cache = await caches.open("mlc-edge-content-v1");
          for (const key of await cache.keys()) if (key.url.endsWith("/0")) await cache.delete(key);
        }"""
    )
    assert fresh.load("versions")["sampling"]["temperature"] == 0.75


def exchange_weights(folder: Path, content: bytes | None = None) -> bytes:
    """Publishes other weights, NaNs unless told; what they were."""
    shard = max(folder.glob("params_shard_*"), key=lambda path: path.stat().st_size)
    before = shard.read_bytes()
    shard.write_bytes(content or b"\x00\x00\xc0\x7f" * (len(before) // 4))
    edit_lock(folder, shard.name)
    return before


def test_a_faulty_bundle_that_is_stored_whole_gives_way_to_its_repair(
    fresh: EnginePage, versions: Path
) -> None:
    good = exchange_weights(versions)
    assert fresh.load_failure("versions")["code"] == "self_test_failed"
    # The server has nothing else: its error stays.
    assert fresh.load_failure("versions")["code"] == "self_test_failed"
    assert stored(fresh)["tiny-q0f32"]["offlineTargets"]
    exchange_weights(versions, good)
    assert fresh.load("versions")["id"] == "tiny-q0f32"
    assert stored(fresh)["tiny-q0f32"]["update"] is None


def test_an_update_that_can_not_be_loaded_leaves_the_version_before(
    fresh: EnginePage, versions: Path
) -> None:
    publish(versions, 0.25)
    fresh.load("versions")
    publish(versions, 0.75)
    good = exchange_weights(versions)
    fresh.load("versions")
    fresh.page.wait_for_function("() => events.some(({ state }) => state === 'update-available')")
    fresh.run("() => engine.storage.update('bundles/versions/')")
    for _ in ("at first", "again"):
        assert fresh.load("versions")["sampling"]["temperature"] == 0.25
    exchange_weights(versions, good)
    assert fresh.load("versions")["sampling"]["temperature"] == 0.75


def test_weights_damaged_in_the_store_are_found_and_fetched_again(fresh: EnginePage) -> None:
    fresh.load("tiny-q0f32")
    fresh.run(PARTS)
    assert fresh.load("tiny-q0f32")["id"] == "tiny-q0f32"
    assert "damaged" in states(fresh)
    fresh.page.evaluate("events.length = 0")
    fresh.load("tiny-q0f32")
    assert "damaged" not in states(fresh)


def test_a_full_disk_leaves_the_model_in_memory(fresh: EnginePage) -> None:
    session = fresh.page.context.new_cdp_session(fresh.page)
    origin = fresh.run("() => location.origin")
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 1000})
    assert fresh.load("tiny-q0f32")["id"] == "tiny-q0f32"
    full = [event for event in fresh.events() if event.get("state") == "memory-only"]
    assert full and all(event["neededBytes"] > 0 for event in full)
    assert fresh.complete(messages=[{"role": "user", "content": "Hi"}], max_tokens=2)["choices"]


def test_a_browser_that_denies_site_data_loads_all_the_same(
    browser: Browser, site_url: str, bundles: Path
) -> None:
    with engine_page(browser, site_url, before_worker=DENIED) as page:
        assert (
            page.run("() => engine.check('bundles/tiny-q0f32/')")["storage"]["available"] is False
        )
        assert page.load("tiny-q0f32")["id"] == "tiny-q0f32"
        assert "memory-only" in states(page)


def test_weights_that_the_disk_does_not_give_are_downloaded(
    browser: Browser, site_url: str, bundles: Path
) -> None:
    with engine_page(browser, site_url, before_worker=UNREADABLE) as page:
        page.load("tiny-q0f32")
        page.page.workers[0].evaluate("() => { globalThis.unreadable = true; }")
        assert page.load("tiny-q0f32")["id"] == "tiny-q0f32"


def test_tensors_bigger_than_a_slice_and_streams_without_iterators(
    browser: Browser, site_url: str, bundles: Path, tmp_path: Path
) -> None:
    """The self-test compares the last rows of embedding and head with what the shard has."""
    checkpoint = write_checkpoint(tmp_path / "wide", vocab_size=70_000)
    sizes = ("--context-window-size", "64", "--prefill-chunk-size", "16")
    folder = build_bundle(
        checkpoint, bundles / "wide", "--target", "webgpu-software-f32", "--quant", "q0f32", *sizes
    )
    try:
        assert max(path.stat().st_size for path in folder.glob("params_shard_*")) > 2 * (4 << 20)
        with engine_page(browser, site_url, before_worker=OLD_STREAMS) as page:
            for _ in ("from the network", "from the store"):
                assert page.load("wide")["target"] == "webgpu-software-f32"
    finally:
        shutil.rmtree(folder)
