"""The page itself: offline, updated as a whole, under any prefix, isolated."""

from collections.abc import Callable

from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.web.fakes import sha256
from tests.web.service_worker.conftest import (
    BIG,
    BIG_URL,
    BUNDLE,
    SMALL,
    SMALL_URL,
    Tab,
    World,
    page_files,
    verified,
)
from tests.web.serving import serving


def test_offline_the_page_and_a_loaded_bundle_still_work(world: World, tab: Tab):
    assert tab.page.evaluate("crossOriginIsolated") is True
    lock = tab.load(f"{BUNDLE}mlc-lock.json")
    index = tab.load("bundles/index.json")
    tab.load(SMALL_URL)
    tab.load(BIG_URL)
    with world.site.down():
        tab.page.reload()
        expect(tab.page).to_have_title("first")
        assert tab.page.evaluate("crossOriginIsolated") is True
        status = tab.page.evaluate("storage.registerServiceWorker()")
        assert status == {"state": "controlled", "reason": None}
        assert tab.load("bundles/index.json") == index
        assert tab.load(f"{BUNDLE}mlc-lock.json") == lock
        assert tab.load(SMALL_URL) == verified(SMALL)
        assert tab.load(BIG_URL) == verified(BIG)
        assert tab.load("health")["status"] == 0


def test_offline_an_unknown_address_shows_the_page(world: World, tab: Tab):
    with world.site.down():
        tab.page.goto(f"{tab.url}some/where")
        expect(tab.page).to_have_title("first")


WORKER_LOADS = """url => new Promise((resolve, reject) => {
  const worker = new Worker("dist/worker-CCCCCCCC.js", { type: "module" });
  worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
  worker.onerror = () => reject(new Error("the worker did not start"));
  worker.postMessage(url);
})"""


def test_worker_of_the_first_visit_gets_verified_files(world: World, tab: Tab):
    assert tab.page.evaluate(WORKER_LOADS, BIG_URL) == [len(BIG), "sha256"]


def test_worker_starts_and_loads_offline(world: World, tab: Tab):
    tab.load(BIG_URL)
    with world.site.down():
        tab.page.reload()
        assert tab.page.evaluate("crossOriginIsolated") is True
        assert tab.page.evaluate(WORKER_LOADS, BIG_URL) == [len(BIG), "sha256"]


def test_update_is_shown_by_the_next_load(world: World, tab: Tab):
    assert check_for_update(tab)["changed"] is False
    world.publish("second")
    update = check_for_update(tab)
    assert update["changed"] is True
    assert tab.wait_for_event("update")["version"] == update["version"]
    # This page is still of the first version, and finds its files, which the server has no more.
    assert tab.load("dist/first-BBBBBBBB.js")["sha256"] == sha256(b"// first")
    tab.page.evaluate("storage.applyUpdate()")
    expect(tab.page).to_have_title("second")
    assert tab.load("dist/second-BBBBBBBB.js")["sha256"] == sha256(b"// second")


def test_visit_looks_for_an_update_by_itself(world: World, tab: Tab):
    world.publish("second")
    tab.page.reload()
    expect(tab.page).to_have_title("first")
    tab.wait_for_event("update")
    tab.page.reload()
    expect(tab.page).to_have_title("second")


def test_half_an_update_changes_nothing(world: World, tab: Tab):
    world.publish("second")
    world.site.network.flips["/dist/second-BBBBBBBB.js"] = 1
    assert "has SHA-256" in tab.page.evaluate("storage.checkForUpdate().catch(String)")
    tab.page.reload()
    expect(tab.page).to_have_title("first")
    # The visit looked again, and this time all of it came.
    tab.wait_for_event("update")
    tab.page.reload()
    expect(tab.page).to_have_title("second")


def test_update_fetches_only_what_changed(world: World, tab: Tab):
    script = "/dist/page-AAAAAAAA.js"
    before = len(world.site.network.requests(script))
    world.publish("second")
    check_for_update(tab)
    assert len(world.site.network.requests(script)) == before


def test_damaged_app_file_is_fetched_again(world: World, tab: Tab):
    tab.page.evaluate(
        """async () => {
          const name = (await caches.keys()).find((key) => key.startsWith("mlc-edge-app"));
          const cache = await caches.open(name);
          const key = (await cache.keys()).find(({ url }) => url.endsWith("first-BBBBBBBB.js"));
          const { headers } = await cache.match(key);
          await cache.put(key, new Response("// damaged", { headers }));
        }"""
    )
    assert tab.load("dist/first-BBBBBBBB.js")["sha256"] == sha256(b"// first")


def test_app_under_a_prefix(world: World, open_tab: Callable[[str], Tab]):
    app = Starlette(routes=[Mount("/some/prefix", world.app())])
    with serving(app) as site:
        tab = open_tab(f"{site.url}some/prefix/")
        assert tab.page.evaluate("crossOriginIsolated") is True
        tab.load("bundles/index.json")
        assert tab.load(SMALL_URL) == verified(SMALL)
        site.stop()
        tab.page.reload()
        expect(tab.page).to_have_title("first")
        assert tab.load("bundles/index.json")["status"] == 200
        assert tab.load(SMALL_URL) == verified(SMALL)
        site.start()


def test_every_file_of_the_app_is_stored(world: World, tab: Tab):
    stored = tab.page.evaluate(
        """async () => {
          const name = (await caches.keys()).find((key) => key.startsWith("mlc-edge-app"));
          const keys = await (await caches.open(name)).keys();
          return keys.map(({ url }) => new URL(url).pathname.slice(1)).sort();
        }"""
    )
    assert stored == sorted(set(page_files(world.scripts)) - {"service-worker.js"})


def check_for_update(tab: Tab) -> dict[str, object]:
    return tab.page.evaluate("storage.checkForUpdate()")
