"""Networks that fail on the way: what is tried again, how often, and what ends it."""

import threading
from collections.abc import Callable

import pytest
from starlette.responses import Response

from tests.web.fakes import sha256
from tests.web.service_worker.conftest import (
    BIG,
    BIG_PATH,
    BIG_URL,
    BOTH,
    PART_BYTES,
    SMALL,
    SMALL_PATH,
    SMALL_URL,
    Tab,
    World,
    interrupt,
    range_start,
    stall,
    verified,
)
from tests.web.serving import serving


def ranges(world: World, path: str) -> list[str | None]:
    return [request.range for request in world.site.network.requests(path)]


def test_every_new_byte_makes_up_for_failures(world: World, tab: Tab):
    tab.hasten_service_worker()
    world.site.network.cuts[BIG_PATH] = [1 << 20] * 8
    assert tab.load(BIG_URL) == verified(BIG)
    assert len(ranges(world, BIG_PATH)) == 9


def test_network_that_gives_nothing_more_is_given_up_after_a_while(world: World, tab: Tab):
    tab.hasten_service_worker()
    world.site.network.cuts[SMALL_PATH] = [2 * PART_BYTES] + [0] * 8
    stall(world, tab, 1).set()
    assert tab.page.evaluate("stopped")["status"] == 0
    delays = tab.page.context.service_workers[0].evaluate("delays")
    assert [ms for ms in delays if ms < 30_000] == [200, 400, 800, 1600, 3200]
    assert len(ranges(world, SMALL_PATH)) == 6
    world.site.network.cuts.clear()
    assert tab.load(SMALL_URL) == verified(SMALL)
    assert range_start(world.site.network.requests(SMALL_PATH)[-1]) in (PART_BYTES, 2 * PART_BYTES)


@BOTH
def test_silent_connection_is_given_up_for_another(
    world: World, tab: Tab, url: str, path: str, content: bytes
):
    tab.hasten_service_worker()
    release = threading.Event()
    world.site.network.stalls[path] = (len(content) // 2, release)
    tab.start_loading(url)
    tab.wait_for_parts(content, 2)
    world.site.network.hangs[path] = release
    assert tab.page.evaluate("stopped") == verified(content)
    assert len(ranges(world, path)) == 3
    release.set()


def test_host_that_is_away_for_a_moment(world: World, tab: Tab):
    """A proxy answers in its place while it starts again."""
    tab.hasten_service_worker()
    world.site.network.cuts[SMALL_PATH] = [2 * PART_BYTES]
    release = stall(world, tab, 1)
    world.site.network.replies[SMALL_PATH] = [Response("starting", 503), Response("soon", 502)]
    release.set()
    assert tab.page.evaluate("stopped") == verified(SMALL)
    first, *others = ranges(world, SMALL_PATH)
    assert first is None and len(others) == 3 and len(set(others)) == 1


def test_refusal_on_the_way_ends_the_download(world: World, tab: Tab):
    world.site.network.cuts[SMALL_PATH] = [2 * PART_BYTES]
    release = stall(world, tab, 1)
    world.site.network.replies[SMALL_PATH] = [Response("no", 403)]
    release.set()
    assert tab.page.evaluate("stopped")["status"] == 403
    assert len(ranges(world, SMALL_PATH)) == 2
    assert tab.load(SMALL_URL) == verified(SMALL)
    assert range_start(world.site.network.requests(SMALL_PATH)[-1]) in (PART_BYTES, 2 * PART_BYTES)


def test_range_that_the_host_does_not_give_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 2)
    world.site.network.replies[SMALL_PATH] = [Response(status_code=416)]
    assert tab.load(SMALL_URL) == verified(SMALL)
    assert ranges(world, SMALL_PATH)[-2:] == [f"bytes={2 * PART_BYTES}-", None]


def test_host_without_ranges_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 2)
    world.site.network.replies[SMALL_PATH] = [Response(SMALL)]
    assert tab.load(SMALL_URL) == verified(SMALL)
    with world.site.down():
        assert tab.load(SMALL_URL) == verified(SMALL)


WRONG_RANGE = {"content-range": f"bytes 100-{len(BIG) - 1}/{len(BIG)}"}


def test_other_range_than_asked_for_starts_over(world: World, tab: Tab):
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = ((2 << 20) + 1, release)
    tab.start_loading(BIG_URL)
    tab.wait_for_parts(BIG, 2)
    tab.stop_loading()
    world.site.network.replies[BIG_PATH] = [Response(BIG[100:], 206, WRONG_RANGE)]
    assert tab.load(BIG_URL) == verified(BIG)
    assert ranges(world, BIG_PATH)[-1] is None
    release.set()


@pytest.mark.parametrize(
    "reply", [Response(BIG), Response(BIG[100:], 206, WRONG_RANGE)], ids=["whole", "wrong range"]
)
def test_other_bytes_than_asked_for_on_the_way(world: World, tab: Tab, reply: Response):
    """A host that forgot ranges sends all of it again: what went out already is skipped."""
    tab.hasten_service_worker()
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = ((2 << 20) + 1, release)
    world.site.network.cuts[BIG_PATH] = [3 << 20]
    tab.start_loading(BIG_URL)
    tab.wait_for_parts(BIG, 2)
    world.site.network.replies[BIG_PATH] = [reply]
    release.set()
    assert tab.page.evaluate("stopped") == verified(BIG)


def test_answer_that_is_no_file_is_not_delivered(world: World, tab: Tab):
    world.site.network.replies[SMALL_PATH] = [Response(status_code=204)]
    assert tab.load(SMALL_URL)["status"] == 0


def test_cancelled_body_frees_the_file_at_once(world: World, tab: Tab):
    """Though the network says nothing more."""
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = (3 << 20, release)
    tab.page.evaluate(
        """async url => {
          globalThis.reader = (await fetch(url)).body.getReader();
          for (let bytes = 0; bytes < 3 << 20; )
            bytes += (await reader.read()).value.length;
          globalThis.pending = reader.read();
          await reader.cancel();
        }""",
        BIG_URL,
    )
    tab.page.evaluate(
        "url => { load(url).then((loaded) => { globalThis.loaded = loaded; }); }", BIG_URL
    )
    assert tab.page.wait_for_function(
        "() => globalThis.loaded", timeout=10_000
    ).json_value() == verified(BIG)
    release.set()


def test_closed_tab_leaves_its_download_to_another(world: World, tab: Tab):
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = (len(BIG) // 2, release)
    tab.start_loading(BIG_URL)
    tab.wait_for_parts(BIG, 2)
    second = tab.another(world.site.url)
    second.page.evaluate("url => { load(url).then((it) => { globalThis.loaded = it; }); }", BIG_URL)
    tab.page.close()
    loaded = second.page.wait_for_function("() => globalThis.loaded", timeout=10_000)
    assert loaded.json_value() == verified(BIG)
    assert range_start(world.site.network.requests(BIG_PATH)[-1]) >= 2 << 20
    release.set()


def test_range_of_a_stored_file_comes_from_the_network(world: World, tab: Tab):
    tab.load(SMALL_URL)
    part = tab.page.evaluate("url => load(url, { headers: { range: 'bytes=10-19' } })", SMALL_URL)
    assert (part["status"], part["sha256"]) == (206, sha256(SMALL[10:20]))


def test_file_of_another_site_is_resumed_without_a_preflight(
    world: World, open_tab: Callable[[str], Tab]
):
    with serving(world.app()) as other:
        other.network.headers["content-security-policy"] = ""
        tab = open_tab(other.url)
        url = f"{world.site.url}{SMALL_URL}"
        interrupt(world, tab, 2, url=url)
        assert tab.load(url) == verified(SMALL)
        resumed = world.site.network.requests(SMALL_PATH)[-1]
        assert (resumed.range, resumed.if_range) == (f"bytes={2 * PART_BYTES}-", None)
        assert len(ranges(world, SMALL_PATH)) == 2
