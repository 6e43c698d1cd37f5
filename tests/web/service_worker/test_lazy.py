"""Files that most visits do without: fetched, verified and kept when they are first used."""

from tests.web.fakes import sha256
from tests.web.service_worker.conftest import LAZY, Tab, World

SHARED = "dist/lazy-DDDDDDDD.js"
OWN = "dist/lazy-first.js"
UPDATE = "app.checkForUpdate()"
GONE = {"status": 0, "sha256": None}


def test_it_is_not_fetched_before_it_is_used(world: World, tab: Tab):
    tab.page.evaluate(UPDATE)
    assert world.site.network.requests(f"/{SHARED}") == []
    with world.site.down():
        assert tab.load(SHARED) == GONE


def test_once_used_it_is_there_offline(world: World, tab: Tab):
    assert tab.load(SHARED) == {"status": 200, "sha256": sha256(LAZY)}
    with world.site.down():
        assert tab.load(SHARED) == {"status": 200, "sha256": sha256(LAZY)}
    assert len(world.site.network.requests(f"/{SHARED}")) == 1


def test_what_does_not_match_the_lock_is_neither_used_nor_kept(world: World, tab: Tab):
    world.site.network.flips[f"/{SHARED}"] = 1
    assert tab.load(SHARED) == GONE
    with world.site.down():
        assert tab.load(SHARED) == GONE
    assert tab.load(SHARED)["sha256"] == sha256(LAZY)


def test_an_update_takes_along_what_is_the_same(world: World, tab: Tab):
    tab.load(SHARED)
    tab.load(OWN)
    for title in ("second", "third"):
        world.publish(title)
        assert tab.page.evaluate(UPDATE)["changed"]
    with world.site.down():
        assert tab.load(SHARED)["sha256"] == sha256(LAZY)
        assert tab.load(OWN) == GONE
        assert tab.load("dist/lazy-third.js") == GONE
    assert tab.load("dist/lazy-third.js")["sha256"] == sha256(b"// lazy third")
    assert len(world.site.network.requests(f"/{SHARED}")) == 1
