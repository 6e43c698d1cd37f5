"""What is stored, what is deleted, and what happens when there is no room."""

import json
from collections.abc import Callable

from tests.web.fakes import LIBRARY
from tests.web.service_worker.conftest import (
    BIG,
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


def test_deleting_what_is_not_stored_is_an_error(tab: Tab):
    url = f"{BUNDLE}mlc-lock.json"
    message = tab.page.evaluate("url => storage.deleteBundle(url).catch(String)", url)
    assert "is not stored" in message


def limit_storage(tab: Tab, free_bytes: int) -> None:
    """Leaves the site so much room above what it uses now."""
    usage = tab.page.evaluate("storage.storageEstimate()")["usage"]
    session = tab.page.context.new_cdp_session(tab.page)
    origin = tab.page.evaluate("location.origin")
    session.send(
        "Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": usage + free_bytes}
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


def test_storage_that_fills_up_on_the_way_is_given_back(world: World, tab: Tab):
    # Other sites may take the room that the browser promised.
    tab.page.context.service_workers[0].evaluate("navigator.storage.estimate = async () => ({})")
    limit_storage(tab, 4 << 20)
    assert tab.load(BIG_URL) == verified(BIG)
    assert tab.wait_for_event("storage")["state"] == "memory-only"
    assert tab.stored_parts(BIG) == 0


def test_persistence_is_asked_for(tab: Tab):
    assert tab.page.evaluate("storage.requestPersistence()") in (True, False)
    assert set(tab.page.evaluate("storage.storageEstimate()")) == {"usage", "quota", "persisted"}


def test_without_service_workers_the_page_is_told_why(
    world: World, open_tab: Callable[[str], Tab], tab: Tab
):
    status = tab.page.evaluate("storage.registerServiceWorker('missing.js')")
    assert status["state"] == "unavailable"
    assert status["reason"]
