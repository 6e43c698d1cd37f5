"""The static site: any server, any path, two versions side by side."""

import shutil
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser import serving
from tests.end_to_end.conftest import Host
from tests.end_to_end.test_chat import ask, open_chat
from tests.web.serving import get


def test_a_plain_server_offers_two_versions_below_a_path(
    browser: Browser, static_site: Path, tmp_path: Path
):
    for version in ("v1", "v2"):
        shutil.copytree(static_site, tmp_path / "www/deep" / version)
    with serving(tmp_path / "www") as url:
        page = open_chat(browser, f"{url}deep/v1/")
        assert "42" in ask(page, "What is 17 + 25?")
        page.goto(f"{url}deep/v2/")
        page.wait_for_selector('html[data-engine="ready"]', timeout=240_000)
        scopes = page.evaluate(
            """async () => {
              await navigator.serviceWorker.ready;
              const all = await navigator.serviceWorker.getRegistrations();
              return all.map(({ scope }) => new URL(scope).pathname);
            }"""
        )
        assert sorted(scopes) == ["/deep/v1/", "/deep/v2/"]


def test_our_host_serves_the_same_folder_to_the_origins_that_may_embed_it(
    static_site: Path, start_host: Callable[..., Host]
):
    host = start_host("--site", static_site, "--embed", "https://one.example")
    path = "dist/mlc-edge.js"
    for origin, allowed in (("https://one.example", True), ("https://two.example", False)):
        answer = get(host.url + path, headers={"origin": origin})
        assert answer.content == (static_site / path).read_bytes()
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        policy = "cross-origin" if allowed else "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == policy
        assert "Origin" in answer.headers["vary"]
    index = get(f"{host.url}bundles/index.json")
    assert index.content == (static_site / "bundles/index.json").read_bytes()
