"""What is stored, what is deleted, and what happens when there is no room."""

import json
import threading

import pytest
from playwright.sync_api import Browser

from tests.web.fakes import LIBRARY
from tests.web.service_worker.conftest import (
    BIG,
    BIG_PATH,
    BIG_URL,
    BUNDLE,
    OTHER,
    SMALL,
    SMALL_URL,
    Tab,
    World,
    verified,
)


def lock_of(world: World, base: str) -> dict:
    folder = world.bundle if base == BUNDLE else world.other_bundle
    return json.loads((folder / "mlc-lock.json").read_text())


def load_bundle(world: World, tab: Tab, base: str, *, leave: str | None = None) -> None:
    """Loads the lock and every file of a bundle but `leave`."""
    tab.load(f"{base}mlc-lock.json")
    for file in lock_of(world, base)["files"]:
        if file["path"] != leave:
            assert tab.load(f"{base}{file['path']}?sha256={file['sha256']}")["status"] == 200


def stored_bundles(tab: Tab) -> dict[str, dict]:
    return {bundle["id"]: bundle for bundle in tab.page.evaluate("storage.listStoredBundles()")}


def delete(tab: Tab, base: str) -> dict[str, int]:
    return tab.page.evaluate("url => storage.deleteBundle(url)", f"{base}mlc-lock.json")


def test_stored_bundles_tell_their_size_and_targets(world: World, tab: Tab):
    assert stored_bundles(tab) == {}
    load_bundle(world, tab, BUNDLE, leave=LIBRARY)
    files = lock_of(world, BUNDLE)["files"]
    library = next(file["bytes"] for file in files if file["path"] == LIBRARY)
    total = sum(file["bytes"] for file in files)
    bundle = stored_bundles(tab)["fake-q4f32_1"]
    assert bundle["lockUrl"] == f"{tab.url}{BUNDLE}mlc-lock.json"
    assert (bundle["modelType"], bundle["quantization"]) == ("llama", "q4f32_1")
    assert (bundle["totalBytes"], bundle["storedBytes"]) == (total, total - library)
    assert bundle["offlineTargets"] == []
    load_bundle(world, tab, BUNDLE)
    assert stored_bundles(tab)["fake-q4f32_1"]["storedBytes"] == total
    assert stored_bundles(tab)["fake-q4f32_1"]["offlineTargets"] == ["webgpu-f32"]
    load_bundle(world, tab, OTHER, leave="params_shard_1.bin")
    assert stored_bundles(tab)["other-q4f32_1"]["offlineTargets"] == []


def test_deleting_a_bundle_frees_its_files(world: World, tab: Tab):
    load_bundle(world, tab, BUNDLE)
    usage = tab.page.evaluate("storage.storageEstimate()")["usage"]
    assert usage > len(SMALL) + len(BIG)
    total = sum(file["bytes"] for file in lock_of(world, BUNDLE)["files"])
    assert delete(tab, BUNDLE) == {"freedBytes": total, "keptFiles": 0}
    assert stored_bundles(tab) == {}
    assert tab.stored_parts(SMALL) == tab.stored_parts(BIG) == 0


def test_files_of_two_bundles_are_stored_once_and_deleted_last(world: World, tab: Tab):
    load_bundle(world, tab, BUNDLE)
    load_bundle(world, tab, OTHER)
    assert not world.site.network.requests(f"/{OTHER}params_shard_0.bin")
    deleted = delete(tab, BUNDLE)
    assert deleted["freedBytes"] == len(BIG)
    assert deleted["keptFiles"] == len(lock_of(world, BUNDLE)["files"]) - 1
    assert stored_bundles(tab)["other-q4f32_1"]["offlineTargets"] == ["webgpu-f32"]
    assert tab.stored_parts(SMALL) > 0
    delete(tab, OTHER)
    assert tab.stored_parts(SMALL) == 0


def test_bundle_deleted_while_it_loads_stays_deleted(world: World, tab: Tab):
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = ((4 << 20) + 1, release)
    tab.load(f"{BUNDLE}mlc-lock.json")
    tab.start_loading(BIG_URL)
    tab.wait_for_parts(BIG, 4)
    assert delete(tab, BUNDLE)["freedBytes"] == 4 << 20
    release.set()
    assert tab.page.evaluate("stopped") == verified(BIG)
    assert tab.stored_parts(BIG) == 0


def test_deleting_what_is_not_stored_is_an_error(tab: Tab):
    url = f"{BUNDLE}mlc-lock.json"
    message = tab.page.evaluate(
        "url => storage.deleteBundle(url).then(() => 'deleted', String)", url
    )
    assert "is not stored" in message


def limit_storage(tab: Tab, free_bytes: int) -> None:
    """Leaves the site so much room above what it uses now."""
    usage = tab.page.evaluate("storage.storageEstimate()")["usage"]
    session = tab.page.context.new_cdp_session(tab.page)
    origin = tab.page.evaluate("location.origin")
    session.send(
        "Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": usage + free_bytes}
    )


def promise_storage(tab: Tab, free_bytes: int) -> None:
    """What a browser that tells its quota says; Chromium always says 10 GiB more than is used."""
    tab.page.context.service_workers[0].evaluate(
        "free => { navigator.storage.estimate = async () => ({ usage: 1000, quota: 1000 + free }); }",
        free_bytes,
    )


def test_file_without_room_passes_through(world: World, tab: Tab):
    limit_storage(tab, 2 << 20)
    assert tab.load(BIG_URL) == verified(BIG)
    event = tab.wait_for_event("storage")
    assert event["state"] == "memory-only"
    assert event["neededBytes"] == len(BIG)
    assert tab.stored_parts(BIG) == 0
    assert tab.load(SMALL_URL) == verified(SMALL)
    assert tab.stored_parts(SMALL) > 0


def test_room_is_left_to_the_browser(world: World, tab: Tab):
    promise_storage(tab, len(BIG) + (1 << 19))
    assert tab.load(BIG_URL) == verified(BIG)
    assert tab.stored_parts(BIG) == 0
    promise_storage(tab, len(BIG) + (2 << 20))
    assert tab.load(BIG_URL) == verified(BIG)
    assert tab.stored_parts(BIG) > 0


def test_resumed_file_needs_room_for_its_rest_alone(world: World, tab: Tab):
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = ((6 << 20) + 1, release)
    tab.start_loading(BIG_URL)
    tab.wait_for_parts(BIG, 6)
    tab.stop_loading()
    release.set()
    promise_storage(tab, 6 << 20)
    assert tab.load(BIG_URL) == verified(BIG)
    with world.site.down():
        assert tab.load(BIG_URL) == verified(BIG)


def test_storage_that_fills_up_on_the_way_is_given_back(world: World, tab: Tab):
    # Other sites may take the room that the browser promised.
    tab.page.context.service_workers[0].evaluate("navigator.storage.estimate = async () => ({})")
    limit_storage(tab, 4 << 20)
    assert tab.load(BIG_URL) == verified(BIG)
    assert tab.wait_for_event("storage")["state"] == "memory-only"
    assert tab.stored_parts(BIG) == 0


@pytest.mark.parametrize("setting", ["granted", "denied"])
def test_persistence_is_as_the_browser_says(tab: Tab, setting: str):
    session = tab.page.context.new_cdp_session(tab.page)
    context = session.send("Target.getTargetInfo")["targetInfo"]["browserContextId"]
    permission = {"permission": {"name": "persistent-storage"}, "setting": setting}
    session.send("Browser.setPermission", {**permission, "browserContextId": context})
    tab.page.evaluate(
        """() => {
          const { persist } = navigator.storage;
          globalThis.asked = 0;
          navigator.storage.persist = () => { asked += 1; return persist.call(navigator.storage); };
        }"""
    )
    assert tab.page.evaluate("storage.requestPersistence()") is (setting == "granted")
    # What is granted already is not asked for: some browsers would show a question.
    assert tab.page.evaluate("asked") == (setting == "denied")
    estimate = tab.page.evaluate("storage.storageEstimate()")
    assert estimate["persisted"] is (setting == "granted")
    assert estimate["quota"] > estimate["usage"] > 0


def test_service_worker_that_is_missing_or_fails(tab: Tab):
    status = tab.page.evaluate("storage.registerServiceWorker('missing.js')")
    assert status["state"] == "unavailable"
    assert "didn't start" in status["reason"]


def test_hard_reload_bypasses_storage(world: World, tab: Tab):
    tab.load(SMALL_URL)
    session = tab.page.context.new_cdp_session(tab.page)
    with tab.page.expect_navigation():
        session.send("Page.reload", {"ignoreCache": True})
    status = tab.page.evaluate("storage.registerServiceWorker(undefined, 10)")
    assert status["state"] == "uncontrolled"
    assert tab.load(SMALL_URL) == {**verified(SMALL), "verified": None}
    assert stored_bundles(tab) == {}


def test_browser_without_service_workers(world: World, browser: Browser):
    """As on plain http: all loads, nothing is kept, and what can't be done says so."""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete Navigator.prototype.serviceWorker")
    page.goto(world.site.url)
    status = page.evaluate("storage.registerServiceWorker()")
    assert status["state"] == "unavailable" and "https" in status["reason"]
    assert page.evaluate("url => load(url)", SMALL_URL) == {**verified(SMALL), "verified": None}
    assert page.evaluate("storage.listStoredBundles()") == []
    assert "no service worker" in page.evaluate("storage.deleteBundle('a').catch(String)")
    context.close()
