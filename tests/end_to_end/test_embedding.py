"""Somebody else's page, with a strict policy, runs the engine and the models of a site of another origin."""

import subprocess
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser import serving
from tests.end_to_end.conftest import COMMAND, ROOT, Host

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


def test_another_origin_runs_the_engine(browser: Browser, web_bundle: Path, tmp_path: Path):
    site = tmp_path / "site"
    subprocess.run([*COMMAND, "site", str(site), str(web_bundle)], check=True, cwd=ROOT)
    host = Host("--site", site, "--embed", "*")
    try:
        write_page(tmp_path / "shop", host.url)
        with serving(tmp_path / "shop") as shop:
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
    finally:
        host.stop()


def test_an_origin_that_may_not_is_told_why(browser: Browser, web_bundle: Path, tmp_path: Path):
    site = tmp_path / "site"
    subprocess.run([*COMMAND, "site", str(site), str(web_bundle)], check=True, cwd=ROOT)
    host = Host("--site", site, "--embed", "https://one.example")
    try:
        write_page(tmp_path / "shop", host.url)
        with serving(tmp_path / "shop") as shop:
            page = browser.new_context().new_page()
            problems: list[str] = []
            page.on("console", lambda m: problems.append(m.text))
            page.goto(shop)
            page.wait_for_load_state("networkidle")
            assert any("CORS policy" in problem for problem in problems)
    finally:
        host.stop()
