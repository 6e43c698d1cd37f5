"""Locks and the list of bundles: from the network while it is honest, else as last seen."""

import threading

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from tests.web.fakes import sha256, write_bundle
from tests.web.service_worker.conftest import (
    BIG,
    BUNDLE,
    OTHER,
    SMALL,
    SMALL_URL,
    Tab,
    World,
    address,
)

LOCK = f"{BUNDLE}mlc-lock.json"
INDEX = "bundles/index.json"
# What proxies, portals and hosts in trouble answer.
NOT_THE_DOCUMENT = {
    "server error": JSONResponse({"bundles": []}, 500),
    "restart": Response("starting", 503),
    "removed": HTMLResponse("<h1>Not found</h1>", 404),
    "refused": JSONResponse({"bundles": []}, 403),
    "portal": HTMLResponse("<h1>Accept our terms</h1>"),
    "other JSON": JSONResponse({"terms": "to be accepted"}),
    "no object": JSONResponse(None),
}


@pytest.mark.parametrize("path", [LOCK, INDEX])
def test_stored_copy_stands_in_for_other_answers(world: World, tab: Tab, path: str):
    genuine = tab.load(path)
    assert genuine["status"] == 200
    tab.load(SMALL_URL)
    answers = {}
    for name, reply in NOT_THE_DOCUMENT.items():
        world.site.network.replies[f"/{path}"] = [reply]
        answers[name] = tab.load(path)
    assert answers == dict.fromkeys(NOT_THE_DOCUMENT, genuine)
    # None of them replaced the copy, or was taken for a lock that names no files.
    assert tab.stored_parts(SMALL) > 0
    with world.site.down():
        assert tab.load(path) == genuine


def test_without_a_copy_the_answer_is_passed_on(world: World, tab: Tab):
    for reply in NOT_THE_DOCUMENT.values():
        world.site.network.replies[f"/{LOCK}"] = [reply]
        answer = tab.load(LOCK)
        assert (answer["status"], answer["sha256"]) == (reply.status_code, sha256(reply.body))
    assert tab.page.evaluate("storage.listStoredBundles()") == []
    with world.site.down():
        assert tab.load(LOCK)["status"] == 0


def test_stored_copies_stand_in_for_a_network_that_hangs(world: World, tab: Tab):
    """One before its headers, one in the middle of its body."""
    tab.hasten_service_worker()
    world.site.network.headers["etag"] = ""
    genuine = [tab.load(LOCK), tab.load(INDEX)]
    release = threading.Event()
    world.site.network.stalls[f"/{LOCK}"] = (10, release)
    world.site.network.hangs[f"/{INDEX}"] = release
    both = tab.page.evaluate("paths => Promise.all(paths.map((path) => load(path)))", [LOCK, INDEX])
    release.set()
    assert both == genuine


def test_cut_lock_does_not_replace_the_stored_one(world: World, tab: Tab):
    world.site.network.headers["etag"] = ""
    genuine = tab.load(LOCK)
    world.site.network.cuts[f"/{LOCK}"] = [100]
    assert tab.load(LOCK) == genuine


def test_documents_are_looked_up_each_time(world: World, tab: Tab):
    """Even where a host lets caches keep them."""
    world.site.network.headers["cache-control"] = "max-age=3600"
    tab.load(LOCK)
    write_bundle(world.bundle, {"new.bin": b"new"})
    assert tab.load(LOCK)["sha256"] == sha256((world.bundle / "mlc-lock.json").read_bytes())


def test_query_is_not_part_of_a_document(world: World, tab: Tab):
    genuine = tab.load(LOCK)
    with world.site.down():
        assert tab.load(f"{LOCK}?from=here") == genuine


def test_rebuilt_bundle_keeps_files_that_are_still_named(world: World, tab: Tab):
    tab.load(LOCK)
    tab.load(f"{OTHER}mlc-lock.json")
    tab.load(SMALL_URL)
    tab.load(address("params_shard_1.bin", BIG))
    write_bundle(world.bundle, {"params_shard_1.bin": BIG})
    tab.load(LOCK)
    # One is named by the new lock, one by the other bundle's.
    assert tab.stored_parts(BIG) > 0 and tab.stored_parts(SMALL) > 0
