"""Versions of the app side by side: what an update brings, keeps and removes."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount

from tests.web.fakes import sha256
from tests.web.service_worker.conftest import REGISTER, Tab, World
from tests.web.serving import serving

OpenTab = Callable[[str], Tab]
UPDATE = "app.checkForUpdate()"


def cache_names(tab: Tab) -> list[str]:
    return tab.page.evaluate("caches.keys()")


def test_file_without_a_hash_in_its_name_is_of_the_shown_version(world: World, open_tab: OpenTab):
    world.site.network.headers["cache-control"] = "no-store"
    tab = open_tab(world.site.url)
    world.publish("second")
    tab.page.evaluate(UPDATE)
    tab.page.reload()
    with world.site.down():
        assert tab.load("dist/mlc-edge.js")["sha256"] == sha256(b"// second")
        # A page that was opened before the update may still ask for it.
        assert tab.load("dist/first-BBBBBBBB.js")["sha256"] == sha256(b"// first")


def test_query_does_not_hide_an_app_file(world: World, tab: Tab):
    with world.site.down():
        assert tab.load("dist/first-BBBBBBBB.js?v=2")["sha256"] == sha256(b"// first")


def test_one_earlier_version_is_kept(world: World, tab: Tab):
    world.publish("second")
    tab.page.evaluate(UPDATE)
    names = cache_names(tab)
    for title in ("third", "fourth"):
        world.publish(title)
        assert tab.page.evaluate(UPDATE)["changed"]
    assert len(cache_names(tab)) == len(names)


def test_failed_update_leaves_nothing(world: World, tab: Tab):
    names = cache_names(tab)
    world.publish("second")
    world.site.network.flips["/dist/second-BBBBBBBB.js"] = 1
    assert "has SHA-256" in tab.page.evaluate(f"{UPDATE}.catch(String)")
    assert cache_names(tab) == names


def test_version_that_comes_back_is_shown(world: World, tab: Tab):
    for title in ("second", "first"):
        world.publish(title)
        assert tab.page.evaluate(UPDATE)["changed"]
        tab.page.reload()
        expect(tab.page).to_have_title(title)


def test_failed_return_of_a_version_keeps_both(world: World, tab: Tab):
    world.publish("second")
    tab.page.evaluate(UPDATE)
    world.publish("first")
    world.site.network.replies["/index.html"] = [JSONResponse({}, 503)]
    assert "503" in tab.page.evaluate(f"{UPDATE}.catch(String)")
    with world.site.down():
        assert tab.load("dist/first-BBBBBBBB.js")["sha256"] == sha256(b"// first")
        tab.page.reload()
        expect(tab.page).to_have_title("second")


def test_error_is_no_update(world: World, tab: Tab):
    """Even one that looks like a lock."""
    world.site.network.replies["/app-lock.json"] = [JSONResponse({"files": []}, 503)]
    assert "answered 503" in tab.page.evaluate(f"{UPDATE}.catch(String)")
    with world.site.down():
        tab.page.reload()
        expect(tab.page).to_have_title("first")


def test_what_the_browser_evicted_is_stored_again(world: World, tab: Tab):
    tab.page.evaluate(
        "caches.keys().then((names) => Promise.all(names.map((n) => caches.delete(n))))"
    )
    # It is what this page runs already.
    assert tab.page.evaluate(UPDATE)["changed"] is False
    with world.site.down():
        tab.page.reload()
        expect(tab.page).to_have_title("first")


def test_update_repairs_a_version(world: World, tab: Tab):
    tab.page.evaluate(
        """async () => {
          for (const name of await caches.keys())
            await (await caches.open(name)).delete("dist/mlc-edge.js");
        }"""
    )
    assert tab.page.evaluate(UPDATE)["changed"] is False
    with world.site.down():
        assert tab.load("dist/mlc-edge.js")["sha256"] == sha256(b"// first")


def test_plain_file_server_is_isolated_from_the_second_visit_on(world: World, open_tab: OpenTab):
    for name in ("cross-origin-embedder-policy", "cross-origin-opener-policy"):
        world.site.network.headers[name] = ""
    tab = open_tab(world.site.url)
    assert tab.page.evaluate("crossOriginIsolated") is False
    tab.page.reload()
    assert tab.page.evaluate("crossOriginIsolated") is True


def test_only_reading_is_answered_from_storage(world: World, tab: Tab):
    assert tab.page.evaluate("load('dist/first-BBBBBBBB.js', { method: 'POST' })")["status"] == 405


def test_apps_of_one_origin_leave_each_other_alone(world: World, tmp_path: Path, open_tab: OpenTab):
    neighbour = World(tmp_path / "neighbour", world.scripts)
    routes = [Mount("/a", world.app()), Mount("/", neighbour.app())]
    with serving(Starlette(routes=routes)) as site:
        first = open_tab(f"{site.url}a/")
        second = first.another(site.url)
        first.page.evaluate("caches.open('of-another-program')")
        for title in ("second", "third"):
            neighbour.publish(title)
            assert second.page.evaluate(UPDATE)["changed"]
        world.publish("fourth")
        version = first.page.evaluate(UPDATE)["version"]
        assert first.wait_for_event("update")["version"] == version
        assert "of-another-program" in cache_names(first)
        with site.down():
            first.page.reload()
            expect(first.page).to_have_title("fourth")
            second.page.reload()
            expect(second.page).to_have_title("third")


def test_new_service_worker_takes_over_open_pages(world: World, open_tab: OpenTab):
    """Even where a host lets caches keep its script."""
    world.site.network.headers["cache-control"] = "max-age=3600"
    tab = open_tab(world.site.url)
    second = tab.another(world.site.url)
    changes = "new Promise((done) => navigator.serviceWorker.oncontrollerchange = done)"
    for page in (tab.page, second.page):
        page.evaluate(f"globalThis.taken = {changes}.then(() => true); null")
    script = world.static / "service-worker.js"
    script.write_bytes(script.read_bytes() + b"// second")
    tab.page.evaluate(REGISTER)
    for page in (tab.page, second.page):
        page.wait_for_function("() => taken", timeout=60_000)
