"""Somebody else's page, with a strict policy, runs the engine and the models of a site of another origin."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import serving
from tests.end_to_end.conftest import Host

PAGE = """<!doctype html><meta charset="utf-8"><title>a shop</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'self'; img-src data:;
  script-src 'self' {site} 'wasm-unsafe-eval'; worker-src blob: {site}; connect-src {site}">
<link rel="icon" href="data:,"><output>waiting</output><script type="module" src="shop.js"></script>"""
SCRIPT = """import {{ createEngine }} from "{site}dist/mlc-edge.js";
const output = document.querySelector("output");
const stages = new Set();
try {{
  const engine = await createEngine({{ onProgress: ({{ stage }}) => stages.add(stage) }});
  const messages = [{{ role: "user", content: "What is 17 + 25?" }}];
  const answer = await engine.chat.completions.create({{ messages, temperature: 0 }});
  const text = answer.choices[0].message.content;
  output.textContent = `${{engine.model}}: ${{text}} (${{stages.size > 3}})`;
}} catch (error) {{
  output.textContent = `${{error.name}} ${{error.code}}: ${{error.message}}`;
}}"""


def write_page(folder: Path, site: str) -> None:
    folder.mkdir()
    (folder / "index.html").write_text(PAGE.format(site=site))
    (folder / "shop.js").write_text(SCRIPT.format(site=site))


OpenShop = Callable[[str], AbstractContextManager[str]]


@pytest.fixture
def open_shop(static_site: Path, start_host: Callable[..., Host], tmp_path: Path) -> OpenShop:
    """Serves a shop's page that uses a site, which pages of an origin may embed; its address."""

    @contextmanager
    def open(origin: str) -> Iterator[str]:
        host = start_host("--site", static_site, "--embed", origin)
        write_page(tmp_path / "shop", host.url)
        with serving(tmp_path / "shop") as shop:
            yield shop

    return open


def test_another_origin_runs_the_engine(open_shop: OpenShop, browser: Browser):
    with open_shop("*") as shop:
        page = browser.new_context().new_page()
        problems: list[str] = []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.goto(shop)
        output = page.locator("output")
        expect(output).not_to_have_text("waiting", timeout=240_000)
        assert "42" in output.inner_text(), (output.inner_text(), problems)
        assert output.inner_text().startswith("pocket-q4f32_1:")
        assert output.inner_text().endswith("(true)")
        assert not problems

        asked: list[str] = []
        page.context.on("request", lambda request: asked.append(request.url))
        page.goto(shop)
        expect(output).to_contain_text("42", timeout=240_000)
        assert asked
        assert not [url for url in asked if "params_shard" in url or ".wasm" in url]


def test_an_origin_that_may_not_is_told_why(open_shop: OpenShop, browser: Browser):
    with open_shop("https://one.example") as shop:
        page = browser.new_context().new_page()
        with page.expect_console_message(lambda message: "CORS policy" in message.text):
            page.goto(shop)
