"""Bytes on their way: verified, kept in parts, continued where a connection broke."""

import threading

from tests.web.fakes import sha256
from tests.web.store.conftest import (
    BIG,
    BIG_FILE,
    BIG_PART_BYTES,
    BOTH,
    BUNDLE,
    PART_BYTES,
    SMALL,
    SMALL_FILE,
    File,
    Tab,
    World,
    interrupt,
    range_start,
    stall,
)

FLIP = "(bytes) => { bytes[7] ^= 1; return bytes; }"


@BOTH
def test_file_is_downloaded_once(world: World, tab: Tab, file: File):
    assert tab.load(file) == file.whole
    assert tab.load(file) == file.whole
    assert tab.load(file, whole=True) == file.whole
    assert len(world.ranges(file.path)) == 1
    tab.reload()
    with world.site.down():
        assert tab.load(file) == file.whole


@BOTH
def test_file_damaged_on_the_way_is_fetched_again(world: World, tab: Tab, file: File):
    world.network.flips[file.path] = 1
    assert tab.load(file) == file.whole
    (event,) = tab.events("damaged")
    assert event["source"] == "network" and file.path in event["url"]
    requests = world.network.requests(file.path)
    assert [request.range for request in requests] == [None, None]
    assert requests[1].cache_control == "no-cache"


@BOTH
def test_file_that_stays_damaged_is_never_given(world: World, tab: Tab, file: File):
    world.network.flips[file.path] = 2
    assert tab.load(file) == {"sha256": None, "error": "IntegrityError", "counted": 0}
    assert tab.stored_parts(file.content) == 0
    assert len(world.ranges(file.path)) == 2


def test_file_longer_than_its_lock_says_is_not_awaited(world: World, tab: Tab):
    """Its end may never come."""
    wanted = {**SMALL_FILE.wanted(tab.url), "bytes": 3000}
    world.network.stalls[SMALL_FILE.path] = (PART_BYTES, threading.Event())
    assert tab.run("(wanted) => load(wanted)", wanted)["error"] == "IntegrityError"


def test_broken_connection_is_continued_at_once(world: World, tab: Tab):
    cut = 4 * PART_BYTES + 77
    world.network.cuts[SMALL_FILE.path] = [cut]
    stall(world, tab, 3).set()
    assert tab.loaded() == SMALL_FILE.whole
    first, second = world.network.requests(SMALL_FILE.path)
    assert first.range is None
    assert 3 * PART_BYTES <= range_start(second) <= cut
    assert second.if_range == f'"{sha256(SMALL)}"'


@BOTH
def test_connection_that_breaks_again_and_again(world: World, tab: Tab, file: File):
    world.network.cuts[file.path] = [PART_BYTES, 0, 3 * PART_BYTES, 5]
    assert tab.load(file) == file.whole
    assert len(world.ranges(file.path)) == 5


def test_stopped_download_of_a_big_file_is_resumed(world: World, tab: Tab):
    release = stall(world, tab, 1, file=BIG_FILE, part_bytes=BIG_PART_BYTES)
    assert tab.stop_loading() == {"sha256": None, "error": "AbortError", "counted": 0}
    release.set()
    assert tab.load(BIG_FILE) == BIG_FILE.whole
    resumed = world.network.requests(BIG_FILE.path)[-1]
    assert resumed.range == f"bytes={BIG_PART_BYTES}-"
    assert resumed.if_range == f'"{sha256(BIG)}"'


def test_download_goes_on_after_the_tab_was_closed(world: World, tab: Tab):
    """In the middle, as a crash would."""
    release = stall(world, tab, 3)
    second = tab.another()
    tab.page.close()
    assert second.load(SMALL_FILE) == SMALL_FILE.whole
    assert world.ranges(SMALL_FILE.path)[-1] == f"bytes={3 * PART_BYTES}-"
    release.set()


def test_download_is_resumed_after_a_reload(world: World, tab: Tab):
    release = stall(world, tab, 2)
    tab.reload()
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert world.ranges(SMALL_FILE.path)[-1] == f"bytes={2 * PART_BYTES}-"
    release.set()
    with world.site.down():
        assert tab.load(SMALL_FILE) == SMALL_FILE.whole


def test_damaged_part_of_an_unfinished_download_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 3)
    tab.change_part(SMALL, 1, FLIP)
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert world.ranges(SMALL_FILE.path)[-2:] == [f"bytes={3 * PART_BYTES}-", None]


def test_server_whose_file_has_another_validator_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 3)
    tab.change_manifest(SMALL, etag='"another"')
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    last = world.network.requests(SMALL_FILE.path)[-1]
    assert (last.range, last.if_range) == (f"bytes={3 * PART_BYTES}-", '"another"')


@BOTH
def test_damaged_stored_file_that_is_run_or_parsed_is_fetched_again(
    world: World, tab: Tab, file: File
):
    tab.load(file)
    tab.change_part(file.content, 1, FLIP)
    assert tab.load(file, whole=True)["sha256"] == sha256(file.content)
    (event,) = tab.events("damaged")
    assert event["source"] == "cache"
    assert len(world.ranges(file.path)) == 2
    with world.site.down():
        assert tab.load(file, whole=True) == file.whole


@BOTH
def test_damage_is_found_where_somebody_looks(world: World, tab: Tab, file: File):
    drop = """({ url, bytes, sha256 }) =>
      store.content.dropDamaged({ url: new URL(url), bytes, sha256 })"""
    wanted = file.wanted(tab.url)
    assert tab.run(drop, wanted) is False
    tab.load(file)
    assert tab.run(drop, wanted) is False
    tab.change_part(file.content, 1, FLIP)
    assert tab.run(drop, wanted) is True
    assert tab.stored_parts(file.content) == 0
    assert tab.load(file) == file.whole


@BOTH
def test_missing_or_short_part_of_a_stored_file_is_fetched_again(
    world: World, tab: Tab, file: File
):
    for change in ("() => null", "(bytes) => bytes.subarray(1)"):
        tab.load(file)
        tab.change_part(file.content, 1, change)
        assert tab.load(file) == file.whole
    assert len(world.ranges(file.path)) == 3


def test_two_tabs_share_one_download(world: World, tab: Tab):
    second = tab.another()
    tab.start_loading(BIG_FILE)
    assert second.load(BIG_FILE) == BIG_FILE.whole
    assert tab.loaded() == BIG_FILE.whole
    assert len(world.ranges(BIG_FILE.path)) == 1


def test_refusal_reaches_the_caller(tab: Tab):
    assert tab.load(File("none.bin", b"none"))["error"] == "RefusedError"


def test_what_earlier_versions_stored_is_used(world: World, tab: Tab):
    """The service worker of those kept parts of 1 MiB, and a content type."""
    tab.run(
        """async ([sha256, mib]) => {
          const url = `${location.origin}/BUNDLEparams_shard_1.bin`;
          const bytes = await (await fetch(url)).arrayBuffer();
          const cache = await caches.open("mlc-edge-content-v1");
          const key = `/__mlc-edge/content/${sha256}`;
          for (let i = 0; i * mib < bytes.byteLength; i++)
            await cache.put(`${key}/${i}`, new Response(bytes.slice(i * mib, (i + 1) * mib)));
          const manifest = { bytes: bytes.byteLength, partBytes: mib, etag: null, complete: true };
          await cache.put(key, Response.json({ ...manifest, contentType: "a/b" }));
        }""".replace("BUNDLE", BUNDLE),
        [sha256(BIG), 1 << 20],
    )
    with world.site.down():
        assert tab.load(BIG_FILE) == BIG_FILE.whole


def test_streams_without_async_iterators_are_read(world: World, tab: Tab):
    """As in Safari 26, and in Chrome before 124."""
    tab.run(
        """() => {
          delete ReadableStream.prototype.values;
          delete ReadableStream.prototype[Symbol.asyncIterator];
        }"""
    )
    world.network.cuts[SMALL_FILE.path] = [PART_BYTES]
    assert tab.load(SMALL_FILE) == SMALL_FILE.whole
    assert "value" in tab.open_lock()


def test_memory_holds_a_few_parts_of_a_download(world: World, tab: Tab):
    """Counted in the store: what was handed to it and isn't stored yet."""
    tab.run(
        """() => {
          const { put } = Cache.prototype;
          globalThis.pending = 0;
          globalThis.most = 0;
          Cache.prototype.put = async function (key, response) {
            const { byteLength } = await response.clone().arrayBuffer();
            pending += byteLength;
            most = Math.max(most, pending);
            await put.call(this, key, response);
            pending -= byteLength;
          };
        }"""
    )
    assert tab.load(BIG_FILE) == BIG_FILE.whole
    assert tab.run("() => most") == BIG_PART_BYTES
