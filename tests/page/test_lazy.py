"""Scripts that come late, or never."""

import json
import re

from playwright.sync_api import expect

from tests.browser import Held
from tests.page.conftest import STATIC, OpenChat

ANSWERS = re.compile(r"/dist/answers-\w+\.js$")
MARKDOWN = "Some **bold** words.\n\n1. <b>one</b>"


def test_page_is_usable_and_answers_wait_for_their_script(open_chat: OpenChat):
    chat = open_chat({"answers": [MARKDOWN]})
    chat.ask("Write.")
    held = Held()
    chat.page.route(ANSWERS, held)
    chat.reload()
    chat.send("Again.")
    expect(chat.page.get_by_role("button", name="Copy answer")).to_have_count(2)
    assert "words" not in "".join(chat.answers.all_inner_texts())
    held.let_go(chat.page)
    expect(chat.answers.locator("strong")).to_have_text(["bold", "bold"])


def test_without_their_script_answers_are_shown_as_they_were_written(open_chat: OpenChat):
    chat = open_chat({"answers": [MARKDOWN]})
    chat.page.route(ANSWERS, lambda route: route.abort())
    chat.reload()
    chat.ask("Write.")
    expect(chat.texts.last).to_have_text(MARKDOWN, use_inner_text=True)
    expect(chat.answers.locator("strong, b")).to_have_count(0)


def test_what_most_visits_do_without_is_marked_in_the_lock():
    files = json.loads((STATIC / "app-lock.json").read_text())["files"]
    lazy = {file["path"] for file in files if file.get("lazy")}
    eager = {file["path"] for file in files} - lazy
    assert all(re.fullmatch(r"dist/(math|highlight)-.+\.(js|css|woff2)", path) for path in lazy)
    for kind in ("math.*js", "math.*css", "math-KaTeX_Main-Regular.*woff2", "highlight.*js"):
        assert [path for path in lazy if re.fullmatch(f"dist/{kind}", path)]
    assert {path.split("-")[0] for path in eager} >= {"dist/chat", "dist/answers", "dist/chunk"}


def test_page_names_all_that_its_script_imports():
    """So that nothing waits for a script to say what else it needs."""
    page = (STATIC / "index.html").read_text()
    (script,) = STATIC.glob("dist/chat-*.js")
    imported = re.findall(r'(?:from|import)\s*"\./([\w-]+\.js)"', script.read_text())
    assert imported
    for name in imported:
        assert f'rel="modulepreload" href="./dist/{name}"' in page
