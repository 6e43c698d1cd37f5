"""Bytes on their way: verified, kept in parts, continued where a connection broke."""

import threading

from tests.web.fakes import random_bytes, sha256, write_bundle
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
    address,
    interrupt,
    range_start,
    stall,
    verified,
)


@BOTH
def test_file_is_downloaded_once(world: World, tab: Tab, url: str, path: str, content: bytes):
    assert tab.load(url) == verified(content)
    assert tab.load(url) == verified(content)
    assert len(world.site.network.requests(path)) == 1


def test_big_file_streams_while_it_arrives(world: World, tab: Tab):
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = (3 << 20, release)
    first = tab.page.evaluate(
        """async url => {
          globalThis.reader = (await fetch(url)).body.getReader();
          return (await reader.read()).value.length;
        }""",
        BIG_URL,
    )
    assert first > 0
    release.set()
    rest = tab.page.evaluate(
        """async () => {
          let bytes = 0;
          for (let step = await reader.read(); !step.done; step = await reader.read())
            bytes += step.value.length;
          return bytes;
        }"""
    )
    assert first + rest == len(BIG)


def test_small_file_damaged_on_the_way_is_fetched_again(world: World, tab: Tab):
    world.site.network.flips[SMALL_PATH] = 1
    assert tab.load(SMALL_URL) == verified(SMALL)
    assert tab.wait_for_event("integrity")["source"] == "network"
    requests = world.site.network.requests(SMALL_PATH)
    assert [request.range for request in requests] == [None, None]
    assert requests[1].cache_control == "no-cache"


def test_small_file_that_stays_damaged_is_never_delivered(world: World, tab: Tab):
    world.site.network.flips[SMALL_PATH] = 2
    response = tab.load(SMALL_URL)
    assert (response["status"], response["error"]) == (502, "integrity_error")
    assert tab.stored_parts(SMALL) == 0


def test_big_file_damaged_on_the_way_fails_at_its_end(world: World, tab: Tab):
    world.site.network.flips[BIG_PATH] = 1
    assert tab.load(BIG_URL)["status"] == 0
    assert tab.wait_for_event("integrity")["source"] == "network"
    assert tab.load(BIG_URL) == verified(BIG)
    assert [request.range for request in world.site.network.requests(BIG_PATH)] == [None, None]


def test_broken_connection_is_continued_at_once(world: World, tab: Tab):
    cut = 4 * PART_BYTES + 77
    world.site.network.cuts[SMALL_PATH] = [cut]
    stall(world, tab, 3).set()
    assert tab.page.evaluate("stopped") == verified(SMALL)
    first, second = world.site.network.requests(SMALL_PATH)
    assert first.range is None
    assert 3 * PART_BYTES <= range_start(second) <= cut
    assert second.if_range == f'"{sha256(SMALL)}"'


@BOTH
def test_connection_that_breaks_again_and_again(
    world: World, tab: Tab, url: str, path: str, content: bytes
):
    world.site.network.cuts[path] = [PART_BYTES, 0, 3 * PART_BYTES, 5]
    assert tab.load(url) == verified(content)
    assert len(world.site.network.requests(path)) == 5


def test_stopped_download_of_a_big_file_is_resumed(world: World, tab: Tab):
    release = threading.Event()
    world.site.network.stalls[BIG_PATH] = (5 << 20, release)
    tab.start_loading(BIG_URL)
    tab.wait_for_parts(BIG, 4)
    assert tab.stop_loading()["error"] == "AbortError"
    release.set()
    assert tab.load(BIG_URL) == verified(BIG)
    resumed = world.site.network.requests(BIG_PATH)[-1]
    assert range_start(resumed) in (4 << 20, 5 << 20)
    assert resumed.if_range == f'"{sha256(BIG)}"'


def test_download_outlives_the_service_worker(world: World, tab: Tab):
    release = stall(world, tab, 3)
    tab.stop_service_worker()
    release.set()
    assert tab.page.evaluate("stopped") == verified(SMALL)
    assert range_start(world.site.network.requests(SMALL_PATH)[-1]) == 3 * PART_BYTES


def test_download_is_resumed_by_the_next_request(world: World, tab: Tab):
    interrupt(world, tab, 3)
    assert tab.load(SMALL_URL) == verified(SMALL)
    resumed = world.site.network.requests(SMALL_PATH)[-1]
    assert resumed.range == f"bytes={3 * PART_BYTES}-"
    assert resumed.if_range == f'"{sha256(SMALL)}"'


def test_download_is_resumed_after_a_reload(world: World, tab: Tab):
    interrupt(world, tab, 2)
    tab.page.reload()
    assert tab.load(SMALL_URL) == verified(SMALL)
    assert world.site.network.requests(SMALL_PATH)[-1].range == f"bytes={2 * PART_BYTES}-"
    with world.site.down():
        assert tab.load(SMALL_URL) == verified(SMALL)


def test_damaged_part_of_an_unfinished_download_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 3)
    damage(tab, SMALL, part=1)
    assert tab.load(SMALL_URL) == verified(SMALL)
    assert [r.range for r in world.site.network.requests(SMALL_PATH)][-2:] == [
        f"bytes={3 * PART_BYTES}-",
        None,
    ]


def test_server_whose_file_has_another_validator_starts_over(world: World, tab: Tab):
    interrupt(world, tab, 3)
    tab.page.evaluate(
        """async hash => {
          const cache = await caches.open("mlc-edge-content-v1");
          const key = (await cache.keys()).find(({ url }) => url.endsWith(hash));
          const manifest = await (await cache.match(key)).json();
          await cache.put(key, Response.json({ ...manifest, etag: '"another"' }));
        }""",
        sha256(SMALL),
    )
    assert tab.load(SMALL_URL) == verified(SMALL)
    last = world.site.network.requests(SMALL_PATH)[-1]
    assert (last.range, last.if_range) == (f"bytes={3 * PART_BYTES}-", '"another"')


@BOTH
def test_damaged_stored_file_is_fetched_again(
    world: World, tab: Tab, url: str, path: str, content: bytes
):
    tab.load(url)
    damage(tab, content, part=1)
    assert tab.load(url) == verified(content)
    assert tab.wait_for_event("integrity")["source"] == "cache"
    assert len(world.site.network.requests(path)) == 2


def test_damaged_stored_file_too_big_to_hold_fails_at_its_end(world: World, tab: Tab):
    content = random_bytes((64 << 20) + 1, seed=3)
    write_bundle(world.bundle, {"huge.bin": content})
    url = address("huge.bin", content)
    assert tab.load(url) == verified(content)
    assert tab.load(url) == verified(content)
    damage(tab, content, part=60)
    assert tab.load(url)["status"] == 0
    assert tab.wait_for_event("integrity")["source"] == "cache"
    assert tab.load(url) == verified(content)


def test_missing_part_of_a_stored_file_is_fetched_again(world: World, tab: Tab):
    tab.load(SMALL_URL)
    tab.page.evaluate(
        """async hash => {
          const cache = await caches.open("mlc-edge-content-v1");
          const keys = await cache.keys();
          await cache.delete(keys.find(({ url }) => url.endsWith(`${hash}/1`)));
        }""",
        sha256(SMALL),
    )
    assert tab.load(SMALL_URL) == verified(SMALL)


def test_reload_discards_the_stored_file(world: World, tab: Tab):
    tab.load(SMALL_URL)
    assert tab.page.evaluate("url => load(url, { cache: 'reload' })", SMALL_URL) == verified(SMALL)
    assert len(world.site.network.requests(SMALL_PATH)) == 2


def test_two_tabs_share_one_download(world: World, tab: Tab):
    second = tab.page.context.new_page()
    second.goto(world.site.url)
    tab.page.evaluate("url => { globalThis.stopped = load(url); }", BIG_URL)
    assert second.evaluate("url => load(url)", BIG_URL) == verified(BIG)
    assert tab.page.evaluate("stopped") == verified(BIG)
    assert len(world.site.network.requests(BIG_PATH)) == 1


def test_refusal_reaches_the_caller(tab: Tab):
    response = tab.load(f"bundles/fake-q4f32_1/none.bin?sha256={'0' * 64}")
    assert (response["status"], response["verified"]) == (404, None)


def test_rebuilt_bundle_brings_its_new_files(world: World, tab: Tab):
    tab.load("bundles/fake-q4f32_1/mlc-lock.json")
    tab.load(SMALL_URL)
    write_bundle(world.bundle, {"params_shard_0.bin": b"rebuilt"})
    tab.load("bundles/fake-q4f32_1/mlc-lock.json")
    assert tab.stored_parts(SMALL) == 0
    url = f"bundles/fake-q4f32_1/params_shard_0.bin?sha256={sha256(b'rebuilt')}"
    assert tab.load(url) == verified(b"rebuilt")


def damage(tab: Tab, content: bytes, *, part: int) -> None:
    """Changes one byte of a stored part."""
    tab.page.evaluate(
        """async ([hash, part]) => {
          const cache = await caches.open("mlc-edge-content-v1");
          const keys = await cache.keys();
          const key = keys.find(({ url }) => url.endsWith(`${hash}/${part}`));
          const bytes = new Uint8Array(await (await cache.match(key)).arrayBuffer());
          bytes[7] ^= 1;
          await cache.put(key, new Response(bytes));
        }""",
        [sha256(content), part],
    )
