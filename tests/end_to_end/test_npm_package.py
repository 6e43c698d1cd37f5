"""The npm package in apps: packed, installed, built by Vite and webpack without configuration, opened."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import serving
from tests.end_to_end.conftest import ROOT, Host

TOOLS = ROOT / "node_modules/.bin"
APP = """import { createEngine, EngineError } from "@mlc-edge/web";

const output = document.querySelector("output");
const model = new URLSearchParams(location.search).get("model");
try {
  await createEngine();
} catch (error) {
  output.dataset.refusal = error instanceof EngineError ? error.param : String(error);
}
try {
  const engine = await createEngine({ model });
  const messages = [{ role: "user", content: "What is 17 + 25?" }];
  const answer = await engine.chat.completions.create({ messages, temperature: 0 });
  output.textContent = answer.choices[0].message.content;
} catch (error) {
  output.textContent = `${error.name} ${error.code}: ${error.message}`;
}
"""
TYPED = """import type { MlcChat } from "@mlc-edge/web/widget";
import { createEngine, type ChatCompletion, type EngineOptions } from "@mlc-edge/web";

const options: EngineOptions = { model: new URL("https://models.example/pocket/") };
export async function ask(content: string): Promise<string> {
  const engine = await createEngine(options);
  const messages = [{ role: "user" as const, content }];
  const answer: ChatCompletion = await engine.chat.completions.create({ messages });
  // @ts-expect-error: no such role
  void engine.chat.completions.create({ messages: [{ role: "nobody", content }] });
  return answer.choices[0]?.message.content ?? "";
}

export function embed(chat: HTMLElementTagNameMap["mlc-chat"]): MlcChat {
  chat.strings = { welcome: "Hello!" };
  chat.addEventListener("toolcall", ({ detail }) => detail.respond(detail.calls[0]?.id ?? "", "7"));
  // @ts-expect-error: no such role
  chat.messages = [{ role: "nobody", content: "" }];
  return chat;
}
"""
WIDGET = """import { MlcChat } from "@mlc-edge/web/widget";

const output = document.querySelector("output");
const chat = document.body.appendChild(document.createElement("mlc-chat"));
chat.setAttribute("src", new URLSearchParams(location.search).get("model"));
try {
  await chat.load();
  const answer = await chat.send("What is 17 + 25?");
  output.textContent = chat instanceof MlcChat ? answer.content : "another class";
} catch (error) {
  output.textContent = `${error.name} ${error.code}: ${error.message}`;
}
"""
PAGE = """<!doctype html><link rel="icon" href="data:,"><output></output>
<script type="module" src="{}"></script>"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `npm pack` makes."""
    folder = tmp_path_factory.mktemp("npm")
    run("node", ROOT / "web/npm.mjs", folder / "package", cwd=ROOT)
    (name,) = json.loads(run("npm", "pack", "--json", folder / "package", cwd=folder))
    return folder / name["filename"]


@pytest.fixture
def app(package: Path, tmp_path: Path) -> Path:
    """An app that has installed the package; its only dependency."""
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "app", "private": true, "type": "module"}')
    run("npm", "install", "--offline", "--no-audit", "--no-fund", package, cwd=folder)
    (folder / "src/index.js").write_text(APP)
    return folder


def build_with_vite(app: Path) -> Path:
    (app / "index.html").write_text(PAGE.format("/src/index.js"))
    run(TOOLS / "vite", "build", cwd=app)
    return app / "dist"


def build_with_webpack(app: Path) -> Path:
    run(TOOLS / "webpack", "--mode", "production", cwd=app)
    (app / "dist/index.html").write_text(PAGE.format("main.js"))
    return app / "dist"


@pytest.mark.parametrize("build", [build_with_vite, build_with_webpack])
def test_an_app_answers(
    build, app: Path, browser: Browser, web_bundle: Path, start_host: Callable[..., Host]
):
    host = start_host()
    with serving(build(app)) as url:
        page = browser.new_context().new_page()
        page.goto(f"{url}?model={host.url}bundles/{web_bundle.name}/")
        output = page.locator("output")
        expect(output).not_to_be_empty(timeout=240_000)
        assert "42" in output.inner_text()
        assert output.get_attribute("data-refusal") == "model"


def test_its_types_are_strict(app: Path):
    (app / "src/ask.ts").write_text(TYPED)
    options = ["--strict", "--noEmit", "--module", "esnext", "--moduleResolution", "bundler"]
    run(TOOLS / "tsc", *options, "--target", "es2022", "src/ask.ts", cwd=app)


@pytest.mark.parametrize("build", [build_with_vite, build_with_webpack])
def test_its_widget_answers(
    build, app: Path, browser: Browser, web_bundle: Path, start_host: Callable[..., Host]
):
    (app / "src/index.js").write_text(WIDGET)
    host = start_host()
    with serving(build(app)) as url:
        page = browser.new_context().new_page()
        page.goto(f"{url}?model={host.url}bundles/{web_bundle.name}/")
        expect(page.locator("output")).to_contain_text("42", timeout=240_000)
