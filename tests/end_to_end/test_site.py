"""The static site: any server, any path, two versions side by side."""

import shutil
import subprocess
from pathlib import Path

import httpx
from playwright.sync_api import Browser

from tests.browser import serving
from tests.end_to_end.conftest import COMMAND, ROOT, Host
from tests.end_to_end.test_chat import ask, open_chat


def test_a_plain_server_offers_two_versions_below_a_path(
    browser: Browser, web_bundle: Path, tmp_path: Path
):
    first = tmp_path / "www/deep/v1"
    subprocess.run([*COMMAND, "site", str(first), str(web_bundle)], check=True, cwd=ROOT)
    second = tmp_path / "www/deep/v2"
    shutil.copytree(first, second)
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
    web_bundle: Path, tmp_path: Path
):
    folder = tmp_path / "site"
    subprocess.run([*COMMAND, "site", str(folder), str(web_bundle)], check=True, cwd=ROOT)
    host = Host("--site", folder, "--embed", "https://one.example")
    try:
        path = "dist/mlc-edge.js"
        for origin, allowed in (("https://one.example", True), ("https://two.example", False)):
            answer = httpx.get(host.url + path, headers={"origin": origin})
            assert answer.content == (folder / path).read_bytes()
            assert answer.headers.get("access-control-allow-origin") == (
                origin if allowed else None
            )
            policy = "cross-origin" if allowed else "same-origin"
            assert answer.headers["cross-origin-resource-policy"] == policy
            assert "Origin" in answer.headers["vary"]
        index = httpx.get(f"{host.url}bundles/index.json")
        assert index.content == (folder / "bundles/index.json").read_bytes()
    finally:
        host.stop()
