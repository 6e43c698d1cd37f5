"""The page itself: offline, updated as a whole, under any prefix, isolated."""

import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.web.fakes import sha256
from tests.web.service_worker.conftest import REGISTER, SHARD, SHARD_URL, Tab, World, page_files
from tests.web.serving import serving


def test_offline_the_page_still_opens(world: World, tab: Tab):
    assert tab.page.evaluate("crossOriginIsolated") is True
    with world.site.down():
        tab.page.reload()
        expect(tab.page).to_have_title("first")
        assert tab.page.evaluate("crossOriginIsolated") is True
        status = tab.page.evaluate(REGISTER)
        assert status == {"state": "controlled", "reason": None}
        assert tab.load("health")["status"] == 0


def test_bundles_are_left_to_the_engine(world: World, tab: Tab):
    """What comes from the network stays as it is, and nothing of it is stored here."""
    names = tab.page.evaluate("caches.keys()")
    assert tab.load(SHARD_URL) == {"status": 200, "sha256": sha256(SHARD)}
    assert tab.load("bundles/index.json")["status"] == 200
    assert tab.page.evaluate("caches.keys()") == names
    path = f"/{SHARD_URL.split('?')[0]}"
    assert [seen.range for seen in world.site.network.requests(path)] == [None]
    with world.site.down():
        assert tab.load("bundles/index.json")["status"] == 0


def test_offline_an_unknown_address_leads_home(world: World, tab: Tab):
    with world.site.down():
        tab.page.goto(f"{tab.url}some/where")
        expect(tab.page).to_have_title("first")
        expect(tab.page).to_have_url(tab.url)


WORKER_ANSWERS = """() => new Promise((resolve, reject) => {
  const worker = new Worker("dist/worker-CCCCCCCC.js", { type: "module" });
  worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
  worker.onerror = () => reject(new Error("the worker did not start"));
  worker.postMessage("hello");
})"""


def test_worker_starts_offline(world: World, tab: Tab):
    with world.site.down():
        tab.page.reload()
        assert tab.page.evaluate("crossOriginIsolated") is True
        assert tab.page.evaluate(WORKER_ANSWERS) == "hello"


def test_update_is_shown_by_the_next_load(world: World, tab: Tab):
    assert check_for_update(tab)["changed"] is False
    world.publish("second")
    update = check_for_update(tab)
    assert update["changed"] is True
    assert tab.wait_for_event("update")["version"] == update["version"]
    # This page is still of the first version, and finds its files, which the server has no more.
    assert tab.load("dist/first-BBBBBBBB.js")["sha256"] == sha256(b"// first")
    tab.page.evaluate("app.applyUpdate()")
    expect(tab.page).to_have_title("second")
    assert tab.load("dist/second-BBBBBBBB.js")["sha256"] == sha256(b"// second")


def test_visit_looks_for_an_update_by_itself(world: World, tab: Tab):
    world.publish("second")
    tab.page.reload()
    expect(tab.page).to_have_title("first")
    tab.wait_for_event("update")
    tab.page.reload()
    expect(tab.page).to_have_title("second")


# Pages come once the update is over that their visit has begun.
LATE_PAGES = """() => {
  const { put } = Cache.prototype;
  const updated = new Promise((resolve) => {
    Cache.prototype.put = async function (key, response) {
      await put.call(this, key, response);
      if (!String(key).endsWith("app-versions")) return;
      void navigator.locks.request(`mlc-edge-app ${registration.scope}`, () => resolve());
    };
  });
  const { respondWith } = FetchEvent.prototype;
  FetchEvent.prototype.respondWith = function (response) {
    const isPage = this.request.mode === "navigate";
    respondWith.call(this, isPage ? updated.then(() => response) : response);
  };
}"""


def test_page_that_comes_after_the_update_is_told_of_it(world: World, tab: Tab):
    world.publish("second")
    (worker,) = tab.page.context.service_workers
    worker.evaluate(LATE_PAGES)
    tab.page.reload()
    expect(tab.page).to_have_title("first")
    tab.wait_for_event("update")


def test_half_an_update_changes_nothing(world: World, tab: Tab):
    world.publish("second")
    world.site.network.flips["/dist/second-BBBBBBBB.js"] = 1
    assert "has SHA-256" in tab.page.evaluate("app.checkForUpdate().catch(String)")
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
        site.stop()
        tab.page.reload()
        expect(tab.page).to_have_title("first")
        site.start()


def test_every_file_of_the_app_is_stored(world: World, tab: Tab):
    stored = tab.page.evaluate(
        """async () => {
          const name = (await caches.keys()).find((key) => key.startsWith("mlc-edge-app"));
          const keys = await (await caches.open(name)).keys();
          return keys.map(({ url }) => new URL(url).pathname.slice(1)).sort();
        }"""
    )
    kept = {path for path in page_files(world.scripts) if "lazy" not in path}
    assert stored == sorted(kept - {"service-worker.js"})


def test_service_worker_that_is_missing_or_fails(tab: Tab):
    status = tab.page.evaluate("app.registerServiceWorker('missing.js')")
    assert status["state"] == "unavailable"
    assert "didn't start" in status["reason"]


@pytest.mark.parametrize("path", ["/service-worker.js", "/app-lock.json"])
def test_first_visit_does_not_wait_for_what_hangs(world: World, browser: Browser, path: str):
    hang = world.site.network.hangs[path] = threading.Event()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(world.site.url)
        status = page.evaluate(
            """() => Promise.race([
              app.registerServiceWorker(undefined, 500),
              new Promise((resolve) => setTimeout(resolve, 20_000, { state: "still waiting" })),
            ])"""
        )
        assert status["state"] == "uncontrolled"
    finally:
        hang.set()
        context.close()


def test_hard_reload_bypasses_the_service_worker(tab: Tab):
    session = tab.page.context.new_cdp_session(tab.page)
    with tab.page.expect_navigation():
        session.send("Page.reload", {"ignoreCache": True})
    # It would wait in vain, and the model with it.
    status = tab.page.evaluate(
        """() => Promise.race([
          app.registerServiceWorker(undefined, 1e6),
          new Promise((resolve) => setTimeout(resolve, 20_000, { state: "still waiting" })),
        ])"""
    )
    assert status["state"] == "uncontrolled"


def test_browser_without_service_workers(world: World, browser: Browser):
    """As on plain http: the page works, and what can't be done says so."""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete Navigator.prototype.serviceWorker")
    page.goto(world.site.url)
    status = page.evaluate("app.registerServiceWorker()")
    assert status["state"] == "unavailable" and "https" in status["reason"]
    assert "no service worker" in page.evaluate("app.checkForUpdate().catch(String)")
    context.close()


def check_for_update(tab: Tab) -> dict[str, object]:
    return tab.page.evaluate("app.checkForUpdate()")
