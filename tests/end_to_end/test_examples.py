"""Each app of examples/, built as its README says and opened."""

import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import serving
from tests.end_to_end.conftest import ROOT

TIMEOUT_MS = 240_000
UNBUILT = shutil.ignore_patterns("node_modules", "dist", "public")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm install` brings: the packages of our own package.json, and ours."""
    folder = tmp_path_factory.mktemp("packages") / "node_modules"
    folder.mkdir()
    for package in (ROOT / "node_modules").iterdir():
        (folder / package.name).symlink_to(package)
    ours = folder / "@mlc-edge/web"
    subprocess.run(["node", ROOT / "web/npm.mjs", ours], check=True, cwd=ROOT)
    return folder


@pytest.mark.parametrize("name", ["vite", "ai-sdk"])
def test_a_built_app_answers(
    name: str, packages: Path, static_site: Path, browser: Browser, tmp_path: Path
):
    app = shutil.copytree(ROOT / "examples" / name, tmp_path / "app", ignore=UNBUILT)
    (app / "node_modules").symlink_to(packages)
    shutil.copytree(static_site, app / "public/site")
    subprocess.run(["npm", "run", "build"], check=True, cwd=app)
    with serving(app / "dist") as url:
        page = browser.new_context().new_page()
        page.goto(url)
        ask = page.get_by_role("button", name="Ask")
        expect(ask).to_be_enabled(timeout=TIMEOUT_MS)
        expect(page.locator("output")).to_have_text("pocket-q4f32_1 is ready.")
        ask.click()
        expect(page.locator("output")).to_have_text("17 + 25 = 42.", timeout=TIMEOUT_MS)
