"""Locks: stored bundles are used at once, updates take their place when they are whole."""

import threading

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from tests.browser import wait_for_value
from tests.web.fakes import LIBRARY, write_bundle
from tests.web.store.conftest import (
    BIG,
    BUNDLE,
    OTHER,
    SMALL,
    SMALL_FILE,
    File,
    Tab,
    World,
)

LOCK = f"/{BUNDLE}mlc-lock.json"
# What proxies, portals and hosts in trouble answer.
NOT_THE_LOCK = {
    "server error": JSONResponse({"files": []}, 500),
    "restart": Response("starting", 503),
    "removed": HTMLResponse("<h1>Not found</h1>", 404),
    "refused": JSONResponse({"files": []}, 403),
    "portal": HTMLResponse("<h1>Accept our terms</h1>"),
    "other JSON": JSONResponse({"terms": "to be accepted"}),
    "no object": JSONResponse(None),
}
NEW = b"of the next version" * 100
OTHER_BIG = BIG[::-1]


def publish(world: World, **files: bytes) -> None:
    """Puts another version of the bundle on the server."""
    kept = {"params_shard_0.bin": SMALL, "params_shard_1.bin": NEW}
    write_bundle(
        world.bundle, {**kept, **{f"{name}.bin": content for name, content in files.items()}}
    )


def revalidate(tab: Tab) -> None:
    tab.run("url => revalidate(url)", f"{tab.url}{LOCK[1:]}")


def update(tab: Tab) -> dict:
    outcome: dict = tab.run("url => update(url)", f"{tab.url}{LOCK[1:]}")
    return outcome


def confirm(tab: Tab) -> None:
    tab.run("url => confirm(url)", f"{tab.url}{LOCK[1:]}")


def files_of(opened: dict) -> set[str]:
    return set(opened["value"]["files"])


def test_whole_bundle_is_used_without_asking_the_server(world: World, tab: Tab):
    tab.load_bundle(world)
    asked = len(world.network.requests(LOCK))
    opened = tab.open_lock()
    assert opened["value"]["fromStorage"] and len(world.network.requests(LOCK)) == asked
    with world.site.down():
        assert tab.open_lock() == opened


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in part"])
def test_stored_bundle_stands_in_for_other_answers(world: World, tab: Tab, whole: bool):
    tab.load_bundle(world, leave=None if whole else LIBRARY)
    genuine = files_of(tab.open_lock())
    for reply in NOT_THE_LOCK.values():
        world.network.replies[LOCK] = [reply]
        assert files_of(tab.open_lock()) == genuine
        world.network.replies[LOCK] = [reply]
        revalidate(tab)
    # None of them replaced the lock, or was taken for one that names no files.
    world.network.replies.clear()
    tab.run("() => store.deleteLeftovers()")
    assert tab.stored_parts(SMALL) > 0 and tab.stored()["fake-q4f32_1"]["update"] is None
    assert tab.events("update-available") == []
    with world.site.down():
        assert files_of(tab.open_lock()) == genuine


def test_network_that_hangs_holds_up_nobody(world: World, tab: Tab):
    """Once before its headers, once in the middle of its body."""
    tab.load_bundle(world, leave=LIBRARY)
    world.network.headers["etag"] = ""
    tab.hasten()
    release = threading.Event()
    world.network.hangs[LOCK] = release
    genuine = files_of(tab.open_lock())
    world.network.stalls[LOCK] = (10, release)
    assert files_of(tab.open_lock()) == genuine
    assert tab.run("() => delays.includes(5000)")
    release.set()


def test_without_a_stored_lock_the_error_is_told(world: World, tab: Tab):
    codes = {}
    for name, reply in NOT_THE_LOCK.items():
        world.network.replies[LOCK] = [reply]
        codes[name] = tab.open_lock()["error"]["code"]
    refusals = ("server error", "restart", "removed", "refused", "portal", "no object")
    refused = dict.fromkeys(refusals, "network_error")
    invalid = {"other JSON": "bundle_invalid"}
    assert codes == refused | invalid
    assert tab.stored() == {}
    with world.site.down():
        assert tab.open_lock()["error"]["code"] == "network_error"


def test_cut_lock_does_not_replace_the_stored_one(world: World, tab: Tab):
    world.network.headers["etag"] = ""
    genuine = tab.open_lock()
    world.network.cuts[LOCK] = [100]
    assert tab.open_lock() == genuine


def test_lock_of_a_bundle_in_part_is_looked_up_each_time(world: World, tab: Tab):
    """Even where a host lets caches keep it; what only the old one named goes."""
    world.network.headers["cache-control"] = "max-age=3600"
    tab.load_bundle(world, leave=LIBRARY)
    publish(world, new=b"new")
    assert "new.bin" in files_of(tab.open_lock())
    tab.run("() => store.use()")
    assert tab.stored_parts(BIG) == 0 and tab.stored_parts(SMALL) > 0


def test_update_keeps_the_old_bundle_until_it_is_whole(world: World, tab: Tab):
    tab.load_bundle(world)
    old = files_of(tab.open_lock())
    publish(world, new=b"new")
    revalidate(tab)
    (event,) = tab.events("update-available")
    assert event["bundleUrl"] == f"{tab.url}{BUNDLE}" and event["id"] == "fake-q4f32_1"
    assert event["neededBytes"] == len(NEW) + len(b"new")
    assert files_of(tab.open_lock()) == old
    # It breaks off with one of its two files stored.
    world.network.replies[f"/{BUNDLE}params_shard_1.bin"] = [Response("no", 403)]
    assert update(tab)["error"]["code"] == "network_error"
    stored = tab.stored()["fake-q4f32_1"]
    assert stored["update"]["storedBytes"] == stored["update"]["totalBytes"] - len(NEW)
    tab.run("() => store.use().then((release) => release())")
    tab.reload()
    with world.site.down():
        assert files_of(tab.open_lock()) == old
        assert tab.load(File("params_shard_1.bin", BIG))["error"] is None
    assert update(tab) == {"value": None}
    confirm(tab)
    assert tab.stored()["fake-q4f32_1"]["update"] is None
    with world.site.down():
        assert "new.bin" in files_of(tab.open_lock())
        assert tab.load(File("params_shard_1.bin", NEW))["error"] is None


def test_old_files_go_when_nobody_uses_them(world: World, tab: Tab):
    tab.load_bundle(world)
    second = tab.another()
    second.run("async () => { globalThis.release = await store.use(); }")
    publish(world)
    revalidate(tab)
    update(tab)
    confirm(tab)
    tab.run("async () => { (await store.use())(); }")
    assert tab.stored_parts(BIG) > 0
    second.page.close()
    held = "navigator.locks.query().then(({ held }) => held.length)"
    wait_for_value(tab.page, lambda: tab.page.evaluate(held), 0)
    tab.run("async () => { (await store.use())(); }")
    assert tab.stored_parts(BIG) == 0 and tab.stored_parts(SMALL) > 0


def test_files_of_the_version_before_stay_until_the_new_one_has_loaded(world: World, tab: Tab):
    tab.load_bundle(world)
    publish(world, new=b"new")
    revalidate(tab)
    update(tab)
    assert "new.bin" in files_of(tab.open_lock())
    tab.run("async () => { (await store.use())(); }")
    assert tab.stored_parts(BIG) > 0
    # What is stored already is no update to download.
    revalidate(tab)
    assert len(tab.events("update-available")) == 1
    confirm(tab)
    tab.run("async () => { (await store.use())(); }")
    assert tab.stored_parts(BIG) == 0 and tab.load(File("new.bin", b"new"))["error"] is None


def test_update_without_room_leaves_the_old_bundle(world: World, tab: Tab):
    tab.load_bundle(world)
    publish(world)
    revalidate(tab)
    tab.promise_storage(1 << 20)
    asked = len(world.ranges(f"/{BUNDLE}params_shard_1.bin"))
    assert update(tab)["error"]["code"] == "quota_exceeded"
    assert len(world.ranges(f"/{BUNDLE}params_shard_1.bin")) == asked
    assert tab.events("memory-only") == []
    assert "params_shard_1.bin" in files_of(tab.open_lock())
    assert tab.load(File("params_shard_1.bin", BIG))["error"] is None


def test_update_that_fills_the_disk_leaves_the_old_bundle(world: World, tab: Tab):
    tab.load_bundle(world)
    write_bundle(world.bundle, {"params_shard_0.bin": SMALL, "params_shard_1.bin": OTHER_BIG})
    revalidate(tab)
    # Other sites may take the room that the browser promised.
    tab.run("() => { navigator.storage.estimate = async () => ({}); }")
    tab.limit_storage(1 << 20)
    assert update(tab)["error"]["code"] == "quota_exceeded"
    assert tab.events("memory-only") == []
    assert tab.load(File("params_shard_1.bin", BIG))["error"] is None


def test_update_needs_room_for_what_is_missing_alone(world: World, tab: Tab):
    tab.load_bundle(world)
    publish(world)
    revalidate(tab)
    tab.promise_storage((1 << 20) + len(NEW))
    assert update(tab) == {"value": None}


def test_version_that_comes_back_is_no_update(world: World, tab: Tab):
    tab.load_bundle(world)
    before = (world.bundle / "mlc-lock.json").read_bytes()
    publish(world)
    revalidate(tab)
    (world.bundle / "mlc-lock.json").write_bytes(before)
    revalidate(tab)
    assert tab.stored()["fake-q4f32_1"]["update"] is None
    assert update(tab) == {"value": None}


def test_bundles_that_this_engine_can_not_run_are_no_updates(world: World, tab: Tab):
    tab.load_bundle(world)
    genuine = world.lock()
    for changes in ({"abi_version": 99}, {"lock_version": 99}, {"targets": {}}):
        world.network.replies[LOCK] = [JSONResponse({**genuine, **changes})]
        revalidate(tab)
    assert tab.events("update-available") == [] and tab.stored()["fake-q4f32_1"]["update"] is None


def test_rebuilt_bundle_keeps_files_that_are_still_named(world: World, tab: Tab):
    tab.load_bundle(world, OTHER)
    tab.load_bundle(world, leave=LIBRARY)
    write_bundle(world.bundle, {"params_shard_1.bin": BIG})
    tab.open_lock()
    tab.run("() => store.use()")
    # One is named by the new lock, one by the other bundle's.
    assert tab.stored_parts(BIG) > 0 and tab.load(SMALL_FILE)["error"] is None
    assert len(world.ranges(SMALL_FILE.path)) <= 1
