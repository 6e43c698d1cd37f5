"""What somebody on the way says in the server's place, and entries of storage that can't be read."""

import pytest
from starlette.responses import HTMLResponse

from tests.web.store.conftest import PART_BYTES, SMALL, SMALL_FILE, Tab, World, interrupt, stall

ATTEMPTS = 12


def portal() -> list[HTMLResponse]:
    """Longer than the file that it replaces."""
    return [HTMLResponse("<h1>Accept our terms</h1>" + "x" * len(SMALL)) for _ in range(ATTEMPTS)]


def test_a_portal_costs_nothing_of_an_unfinished_download(world: World, tab: Tab):
    tab.open_lock()
    interrupt(world, tab, 3)
    tab.hasten()
    world.network.replies[SMALL_FILE.path] = portal()
    assert tab.load(SMALL_FILE)["error"] == "TypeError"
    assert tab.stored_parts(SMALL) == 3
    world.network.replies.clear()
    assert tab.load(SMALL_FILE)["error"] is None
    assert world.ranges(SMALL_FILE.path)[-1] == f"bytes={3 * PART_BYTES}-"


def test_a_portal_in_the_middle_of_a_download_costs_nothing(world: World, tab: Tab):
    tab.open_lock()
    tab.hasten()
    world.network.cuts[SMALL_FILE.path] = [3 * PART_BYTES + 5]
    release = stall(world, tab, 2)
    world.network.replies[SMALL_FILE.path] = portal()
    release.set()
    assert tab.loaded()["error"] == "TypeError"
    assert tab.stored_parts(SMALL) >= 2


def test_a_portal_is_no_lock(world: World, tab: Tab):
    world.network.replies["/bundles/fake-q4f32_1/mlc-lock.json"] = portal()[:1]
    assert tab.open_lock()["error"]["code"] == "network_error"


@pytest.mark.parametrize("content", ["", "{", "null", "7"])
def test_a_manifest_that_cannot_be_read_is_none(world: World, tab: Tab, content: str):
    tab.open_lock()
    assert tab.load(SMALL_FILE)["error"] is None
    tab.run(
        """async (content) => {
          const cache = await caches.open("mlc-edge-content-v1");
          for (const key of await cache.keys()) {
            if (/[0-9a-f]{64}$/.test(key.url)) await cache.put(key, new Response(content));
          }
        }""",
        content,
    )
    assert tab.run("async () => (await store.list()).bundles.length") == 1
    assert tab.load(SMALL_FILE)["error"] is None
    tab.delete()
    assert tab.run("async () => (await store.list()).bundles.length") == 0
