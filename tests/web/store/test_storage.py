"""What is stored, what is deleted, and what happens when there is no room."""

import pytest
from starlette.responses import Response

from tests.web.fakes import LIBRARY, sha256
from tests.web.store.conftest import (
    BIG,
    BIG_FILE,
    BIG_PART_BYTES,
    BUNDLE,
    OTHER,
    PART_BYTES,
    SMALL,
    SMALL_FILE,
    Tab,
    World,
    interrupt,
    stall,
)

NOTHING = {"files": 0, "bytes": 0}


def test_stored_bundles_tell_their_size_and_targets(world: World, tab: Tab):
    assert tab.stored() == {}
    tab.load_bundle(world, leave=LIBRARY)
    files = world.lock()["files"]
    library = next(file["bytes"] for file in files if file["path"] == LIBRARY)
    total = sum(file["bytes"] for file in files)
    bundle = tab.stored()["fake-q4f32_1"]
    assert bundle["lockUrl"] == f"{tab.url}{BUNDLE}mlc-lock.json"
    assert (bundle["modelType"], bundle["quantization"]) == ("llama", "q4f32_1")
    assert bundle["contextWindowSize"] == 1024
    assert (bundle["totalBytes"], bundle["storedBytes"]) == (total, total - library)
    assert bundle["offlineTargets"] == [] and bundle["update"] is None
    tab.load_bundle(world)
    assert tab.stored()["fake-q4f32_1"]["storedBytes"] == total
    assert tab.stored()["fake-q4f32_1"]["offlineTargets"] == ["webgpu-f32"]
    tab.load_bundle(world, OTHER, leave="params_shard_1.bin")
    assert tab.stored()["other-q4f32_1"]["offlineTargets"] == []


def test_unfinished_download_is_listed_and_deleted(world: World, tab: Tab):
    tab.open_lock()
    interrupt(world, tab, 3)
    assert tab.stored()["fake-q4f32_1"]["storedBytes"] == 3 * PART_BYTES
    assert tab.delete() == {"freedBytes": 3 * PART_BYTES, "keptFiles": 0}
    assert tab.stored() == {} and tab.stored_parts(SMALL) == 0


def test_deleting_a_bundle_frees_its_files(world: World, tab: Tab):
    tab.load_bundle(world)
    assert tab.run("() => navigator.storage.estimate()")["usage"] > len(SMALL) + len(BIG)
    total = sum(file["bytes"] for file in world.lock()["files"])
    assert tab.delete() == {"freedBytes": total, "keptFiles": 0}
    assert tab.stored() == {}
    assert tab.stored_parts(SMALL) == tab.stored_parts(BIG) == 0
    assert tab.leftovers() == NOTHING


def test_files_of_two_bundles_are_stored_once_and_deleted_last(world: World, tab: Tab):
    tab.load_bundle(world)
    tab.load_bundle(world, OTHER)
    assert not world.ranges(f"/{OTHER}params_shard_0.bin")
    deleted = tab.delete()
    assert deleted["freedBytes"] == len(BIG)
    assert deleted["keptFiles"] == len(world.lock()["files"]) - 1
    assert tab.stored()["other-q4f32_1"]["offlineTargets"] == ["webgpu-f32"]
    assert tab.stored_parts(SMALL) > 0
    tab.delete(OTHER)
    assert tab.stored_parts(SMALL) == 0


def test_bundle_deleted_while_it_loads_stays_deleted(world: World, tab: Tab):
    tab.open_lock()
    release = stall(world, tab, 3)
    assert tab.delete()["freedBytes"] == 3 * PART_BYTES
    release.set()
    assert tab.loaded() == SMALL_FILE.whole
    (event,) = tab.events("memory-only")
    assert (event["reason"], event["neededBytes"]) == ("deleted", len(SMALL))
    assert tab.stored_parts(SMALL) == 0


def test_deleting_what_is_not_stored_is_an_error(tab: Tab):
    failed = tab.run("() => outcome(() => store.delete('http://localhost/mlc-lock.json'))")
    assert "is not stored" in failed["error"]["message"]


def test_files_that_no_lock_names_are_listed_and_deleted(world: World, tab: Tab):
    tab.load_bundle(world, OTHER)
    tab.run("() => caches.delete('mlc-edge-documents-v1')")
    tab.load(BIG_FILE)
    total = len(BIG) + sum(file["bytes"] for file in world.lock(OTHER)["files"])
    assert tab.leftovers() == {"files": len(world.lock(OTHER)["files"]) + 1, "bytes": total}
    # Not while another tab uses a model, whose lock may have been exchanged since.
    second = tab.another()
    second.run("async () => { globalThis.release = await store.use(); }")
    tab.load(BIG_FILE)
    kept = {"freedBytes": 0, "modelsInUse": True}
    assert tab.run("() => store.deleteLeftovers()") == kept
    second.run("() => release()")
    deleted = {"freedBytes": len(BIG), "modelsInUse": False}
    assert tab.run("() => store.deleteLeftovers()") == deleted
    assert tab.leftovers() == NOTHING and tab.stored_parts(BIG) == 0


def test_lock_that_can_not_be_read_keeps_all_files(world: World, tab: Tab):
    """A later version of the page may have stored it, with files of its own."""
    tab.load(SMALL_FILE)
    tab.run(
        """async () => {
          const cache = await caches.open("mlc-edge-documents-v1");
          await cache.put("/later/mlc-lock.json", Response.json({ lock_version: 9 }));
        }"""
    )
    assert tab.run("() => store.deleteLeftovers()")["freedBytes"] == 0
    assert tab.leftovers() == NOTHING and tab.stored_parts(SMALL) > 0


def test_file_without_room_is_held_in_memory(world: World, tab: Tab):
    tab.limit_storage(4 << 20)
    assert tab.load(BIG_FILE) == BIG_FILE.whole
    (event,) = tab.events("memory-only")
    assert event["neededBytes"] == len(BIG) and BIG_FILE.path in event["url"]
    assert tab.stored_parts(BIG) == 0
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert tab.stored_parts(SMALL) > 0


def test_room_is_left_to_the_browser(world: World, tab: Tab):
    tab.promise_storage(len(SMALL) + (1 << 19))
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert tab.stored_parts(SMALL) == 0
    tab.promise_storage(len(SMALL) + (2 << 20))
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert tab.stored_parts(SMALL) > 0


def test_resumed_file_needs_room_for_its_rest_alone(world: World, tab: Tab):
    interrupt(world, tab, 4)
    tab.promise_storage((1 << 20) + len(SMALL) - 4 * PART_BYTES)
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    with world.site.down():
        assert tab.load(SMALL_FILE) == SMALL_FILE.whole


def test_resumed_file_without_room_keeps_what_it_has(world: World, tab: Tab):
    interrupt(world, tab, 4)
    tab.promise_storage(0)
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert tab.events("memory-only")[0]["neededBytes"] == len(SMALL) - 4 * PART_BYTES
    assert tab.stored_parts(SMALL) == 4


def test_storage_that_fills_up_on_the_way_is_given_back(world: World, tab: Tab):
    # Other sites may take the room that the browser promised.
    tab.run("() => { navigator.storage.estimate = async () => ({}); }")
    tab.limit_storage(BIG_PART_BYTES + (1 << 19))
    assert tab.load(BIG_FILE) == BIG_FILE.whole
    assert len(tab.events("memory-only")) == 1
    assert tab.stored_parts(BIG) == 0
    assert len(world.ranges(BIG_FILE.path)) == 1


NO_STORAGE = {
    # As on plain http.
    "nothing there": """() => {
      for (const name of ["caches", "crypto"]) Object.defineProperty(self, name, { value: {} });
      Object.defineProperty(navigator, "locks", { value: undefined });
      Object.defineProperty(navigator, "storage", { value: undefined });
    }""",
    # As in private windows of some browsers.
    "refused": """() => {
      caches.open = async () => { throw new DOMException("not here", "SecurityError"); };
    }""",
    # As where site data is denied.
    "denied": """() => {
      const denied = async () => { throw new DOMException("denied", "SecurityError"); };
      caches.open = denied;
      Object.defineProperty(navigator.locks, "request", { value: denied });
    }""",
    # As after a disk's error.
    "broken": """() => {
      Cache.prototype.match = async () => { throw new DOMException("broken", "UnknownError"); };
    }""",
}


@pytest.mark.parametrize("change", NO_STORAGE.values(), ids=NO_STORAGE)
def test_browser_that_stores_nothing(world: World, tab: Tab, change: str):
    """All loads and is verified, nothing is kept, and that is said."""
    tab.run(change)
    assert "value" in tab.open_lock()
    world.network.cuts[SMALL_FILE.path] = [PART_BYTES]
    world.network.flips[SMALL_FILE.path] = 1
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert tab.load(BIG_FILE, whole=True)["sha256"] == sha256(BIG)
    needed = [event["neededBytes"] for event in tab.events("memory-only")]
    assert needed == [len(SMALL), len(BIG)]
    assert {event["reason"] for event in tab.events("memory-only")} == {"denied"}
    assert tab.stored() == {} and tab.leftovers() == NOTHING
    release = tab.run("() => store.use().then((release) => typeof release)")
    assert release == "function"


def test_denied_locks_are_told_from_failed_jobs(world: World, tab: Tab):
    """What a job throws reaches its caller, and nothing is done twice."""
    world.network.replies[SMALL_FILE.path] = [Response("no", 403)]
    assert tab.load(SMALL_FILE)["error"] == "RefusedError"
    assert len(world.network.requests(SMALL_FILE.path)) == 1


@pytest.mark.parametrize("lasting", [False, True], ids=["this time", "always"])
@pytest.mark.parametrize("whole", [False, True], ids=["ranges", "whole"])
def test_parts_that_the_disk_does_not_give_are_downloaded(
    world: World, tab: Tab, lasting: bool, whole: bool
):
    tab.load(SMALL_FILE)
    tab.run(
        """(lasting) => {
          const { match, put } = Cache.prototype;
          let broken = true;
          Cache.prototype.match = async function (key) {
            const found = await match.call(this, key);
            if (!broken || !found || !/content\\/[0-9a-f]+\\/\\d+$/.test(key)) return found;
            const start = (controller) => controller.error(new TypeError("Failed to fetch"));
            return new Response(new ReadableStream({ start }));
          };
          Cache.prototype.put = function (...entry) {
            broken = lasting;
            return put.apply(this, entry);
          };
        }""",
        lasting,
    )
    assert tab.load(SMALL_FILE, whole=whole) == SMALL_FILE.whole


def test_lock_that_is_wrong_on_a_size_spoils_no_other_bundle(world: World, tab: Tab):
    tab.load(SMALL_FILE)
    parts = tab.stored_parts(SMALL)
    for size in (len(SMALL) + 1, len(SMALL) - 1, 10):
        wrong = {**SMALL_FILE.wanted(tab.url), "bytes": size}
        assert tab.run("(file) => load(file)", wrong)["error"] == "IntegrityError"
        assert tab.stored_parts(SMALL) == parts
    with world.site.down():
        assert tab.load(SMALL_FILE) == SMALL_FILE.whole


def test_only_looked_at_leaves_nothing(world: World, tab: Tab):
    tab.open_lock(keep=False)
    looked = """async (file) => {
      const options = { signal: AbortSignal.timeout(120_000), keep: false };
      return (await store.content.read({ ...file, url: new URL(file.url) }, options)).length;
    }"""
    assert tab.run(looked, SMALL_FILE.wanted(tab.url)) == len(SMALL)
    assert tab.stored() == {} and tab.stored_parts(SMALL) == 0
    assert tab.events("memory-only") == []


def test_parts_are_as_big_as_said(world: World, tab: Tab):
    tab.load(SMALL_FILE)
    tab.load(BIG_FILE)
    assert tab.stored_parts(SMALL) == -(-len(SMALL) // PART_BYTES)
    assert tab.stored_parts(BIG) == -(-len(BIG) // BIG_PART_BYTES)


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
    assert tab.page.evaluate("requestPersistence()") is (setting == "granted")
    # What is granted already is not asked for: some browsers would show a question.
    assert tab.page.evaluate("asked") == (setting == "denied")
    tab.load(SMALL_FILE)
    estimate = tab.page.evaluate("storageEstimate()")
    assert estimate["persisted"] is (setting == "granted")
    assert estimate["quota"] > estimate["usage"] > 0
