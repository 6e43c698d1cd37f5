"""Networks that fail on the way: what is tried again, how often, and what ends it."""

import threading

import pytest
from starlette.responses import Response

from tests.web.serving import serving
from tests.web.store.conftest import (
    BIG_FILE,
    BIG_PART_BYTES,
    PART_BYTES,
    SMALL,
    SMALL_FILE,
    OpenTab,
    Tab,
    World,
    interrupt,
    range_start,
    stall,
)


def test_every_new_byte_makes_up_for_failures(world: World, tab: Tab):
    tab.hasten()
    world.network.cuts[SMALL_FILE.path] = [PART_BYTES // 2] * 8
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert len(world.ranges(SMALL_FILE.path)) == 9


def test_network_that_gives_nothing_more_is_given_up_after_a_while(world: World, tab: Tab):
    tab.hasten()
    world.network.cuts[SMALL_FILE.path] = [2 * PART_BYTES] + [0] * 8
    stall(world, tab, 1).set()
    assert tab.loaded()["error"] == "TypeError"
    delays = tab.run("() => delays")
    assert [ms for ms in delays if ms < 30_000] == [200, 400, 800, 1600, 3200]
    assert len(world.ranges(SMALL_FILE.path)) == 6
    world.network.cuts.clear()
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    resumed = world.network.requests(SMALL_FILE.path)[-1]
    assert range_start(resumed) in (PART_BYTES, 2 * PART_BYTES)


def test_silent_connection_is_given_up_for_another(world: World, tab: Tab):
    tab.hasten(longest_ms=30_000, times=6)
    release = threading.Event()
    world.network.stalls[SMALL_FILE.path] = (len(SMALL) // 2, release)
    world.network.hangs[SMALL_FILE.path] = release
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert len(world.ranges(SMALL_FILE.path)) == 3
    release.set()


def test_host_that_is_away_for_a_moment(world: World, tab: Tab):
    """A proxy answers in its place while it starts again."""
    tab.hasten()
    world.network.cuts[SMALL_FILE.path] = [2 * PART_BYTES]
    release = stall(world, tab, 1)
    world.network.replies[SMALL_FILE.path] = [Response("starting", 503), Response("soon", 502)]
    release.set()
    assert tab.loaded() == SMALL_FILE.whole
    first, *others = world.ranges(SMALL_FILE.path)
    assert first is None and len(others) == 3 and len(set(others)) == 1


def test_refusal_on_the_way_ends_the_download(world: World, tab: Tab):
    world.network.cuts[SMALL_FILE.path] = [2 * PART_BYTES]
    release = stall(world, tab, 1)
    world.network.replies[SMALL_FILE.path] = [Response("no", 403)]
    release.set()
    assert tab.loaded()["error"] == "RefusedError"
    assert len(world.ranges(SMALL_FILE.path)) == 2
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    resumed = world.network.requests(SMALL_FILE.path)[-1]
    assert range_start(resumed) in (PART_BYTES, 2 * PART_BYTES)


def test_range_that_the_host_does_not_give_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 2)
    world.network.replies[SMALL_FILE.path] = [Response(status_code=416)]
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert world.ranges(SMALL_FILE.path)[-2:] == [f"bytes={2 * PART_BYTES}-", None]


def test_host_without_ranges_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 2)
    world.network.replies[SMALL_FILE.path] = [Response(SMALL)]
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    with world.site.down():
        assert tab.load(SMALL_FILE) == SMALL_FILE.whole


def wrong_range(content: bytes) -> Response:
    length = len(content)
    headers = {"content-range": f"bytes 100-{length - 1}/{length}"}
    return Response(content[100:], 206, headers)


def test_other_range_than_asked_for_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 2)
    world.network.replies[SMALL_FILE.path] = [wrong_range(SMALL)]
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert world.ranges(SMALL_FILE.path)[-1] is None
    assert len(world.ranges(SMALL_FILE.path)) == 3


@pytest.mark.parametrize(
    "reply", [Response(SMALL), wrong_range(SMALL)], ids=["whole", "wrong range"]
)
def test_other_bytes_than_asked_for_on_the_way(world: World, tab: Tab, reply: Response):
    """A host that forgot ranges sends all of it again: what came already is skipped."""
    tab.hasten()
    world.network.cuts[SMALL_FILE.path] = [3 * PART_BYTES]
    release = stall(world, tab, 2)
    world.network.replies[SMALL_FILE.path] = [reply]
    release.set()
    assert tab.loaded() == SMALL_FILE.whole
    assert tab.events("damaged") == []


def test_answer_that_is_no_file_is_not_taken(world: World, tab: Tab):
    world.network.replies[SMALL_FILE.path] = [Response(status_code=204)]
    assert tab.load(SMALL_FILE)["error"] == "TypeError"


def test_stopped_load_frees_the_file_at_once(world: World, tab: Tab):
    """Though the network says nothing more."""
    release = stall(world, tab, 1)
    assert tab.stop_loading()["error"] == "AbortError"
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    release.set()


def test_waiting_for_another_tab_can_be_stopped(world: World, tab: Tab):
    release = stall(world, tab, 1)
    second = tab.another()
    second.start_loading(SMALL_FILE)
    assert second.stop_loading()["error"] == "AbortError"
    release.set()
    assert tab.loaded() == SMALL_FILE.whole


def test_closed_tab_leaves_its_download_to_another(world: World, tab: Tab):
    release = stall(world, tab, 1, file=BIG_FILE, part_bytes=BIG_PART_BYTES)
    second = tab.another()
    second.start_loading(BIG_FILE)
    tab.page.close()
    assert second.loaded() == BIG_FILE.whole
    assert range_start(world.network.requests(BIG_FILE.path)[-1]) == BIG_PART_BYTES
    release.set()


def test_file_of_another_site_is_resumed_without_a_preflight(world: World, open_tab: OpenTab):
    with serving(world.network.app) as other:
        other.network.headers["content-security-policy"] = ""
        tab = open_tab(other.url)
        release = threading.Event()
        world.network.stalls[SMALL_FILE.path] = (2 * PART_BYTES + 1, release)
        tab.start_loading(SMALL_FILE, world.site.url)
        tab.wait_for_parts(SMALL, 2)
        tab.stop_loading()
        release.set()
        assert tab.load(SMALL_FILE, site_url=world.site.url) == SMALL_FILE.whole
        resumed = world.network.requests(SMALL_FILE.path)[-1]
        assert (resumed.range, resumed.if_range) == (f"bytes={2 * PART_BYTES}-", None)
        assert len(world.ranges(SMALL_FILE.path)) == 2
