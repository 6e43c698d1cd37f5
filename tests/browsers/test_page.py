"""The chat page with a scripted engine: all that needs no GPU."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.browsers.browser import PHONE, RealBrowser
from tests.browsers.chat import ANSWER, ask, click_button, count, send, start
from tests.browsers.scripted import add_script, scripted_host
from tests.page.conftest import build_page
from tests.page.states import AXE_VIOLATIONS, CODE, PROSE, RIGHT_TO_LEFT, TABLE
from tests.page.test_streaming import CASES
from tests.web.serving import Site, serving

VALUE = "() => document.querySelector('#message').value"
FOCUSED = "(selector) => document.activeElement.matches(selector)"
BUSY = "() => document.documentElement.dataset.engine === 'generating'"
SHOWN = "() => [...document.querySelectorAll('article .body')].map((body) => body.innerText.trim())"
LISTED = (
    "(texts) => JSON.stringify([...document.querySelectorAll('#conversations a')].map((link) =>"
)
LISTED += " link.textContent.trim())) === JSON.stringify(texts)"
LOAD_AXE = """() => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = "./axe.js";
  script.onload = () => resolve();
  script.onerror = reject;
  document.head.append(script);
})"""
# What is handed to downloads.
CATCH = """() => {
  // A driver's script has some of its own.
  const { URL, HTMLAnchorElement } = window;
  const create = URL.createObjectURL;
  URL.createObjectURL = (blob) => {
    window.saved = blob.text();
    return create.call(URL, blob);
  };
  HTMLAnchorElement.prototype.click = () => {};
}"""
IMPORT = """(text) => {
  const input = document.querySelector("#import-file");
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], "chats.json", { type: "application/json" }));
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}"""
READY = """() => [...document.querySelectorAll("iframe")].every(({ contentDocument }) =>
  contentDocument?.documentElement.dataset.engine === "ready")"""
TELL = """([frame, text]) => {
  const { contentDocument, contentWindow } = document.querySelector(frame);
  const box = contentDocument.querySelector("#message");
  box.value = text;
  box.dispatchEvent(new contentWindow.Event("input", { bubbles: true }));
  contentDocument.querySelector("#send").click();
}"""
LISTED_IN_BOTH = """() => [...document.querySelectorAll("iframe")].every(({ contentDocument }) =>
  contentDocument.querySelector("#conversations a") !== null)"""
# An answer that the other page writes is one that can't be copied yet, or says that it was interrupted.
SETTLED = """() => [...document.querySelectorAll("iframe")].every(({ contentDocument }) =>
  contentDocument.querySelector("article[aria-busy], .note") === null &&
  contentDocument.querySelector('button[aria-label="Copy answer"]') !== null)"""
BOTH_SHOW = """(texts) => [...document.querySelectorAll("iframe")].every(({ contentDocument }) =>
  JSON.stringify([...contentDocument.querySelectorAll("article .body")].map((body) =>
    body.innerText.trim())) === JSON.stringify(texts))"""
OpenScripted = Callable[[dict[str, Any]], Site]


@pytest.fixture(scope="session")
def scripted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripted")
    build_page(folder)
    add_script(folder)
    return folder


@pytest.fixture
def open_scripted(scripted_folder: Path) -> Iterator[OpenScripted]:
    """Starts a host whose page has an engine with this script."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(serving(scripted_host(scripted_folder, script)))


def test_what_was_entered_before_the_script_is_answered(
    browser: RealBrowser, open_scripted: OpenScripted
):
    browser.open(open_scripted({"entered": "Am I early?"}).url)
    browser.wait_for_text(ANSWER, "How can I help you?")
    assert browser.run(SHOWN)[0] == "Am I early?"
    assert browser.run(VALUE) == ""


def test_a_draft_survives_a_reload(browser: RealBrowser, open_scripted: OpenScripted):
    site = open_scripted({})
    start(browser, site.url)
    browser.type("#message", "half a thou")
    start(browser, site.url)
    browser.wait_for("() => document.querySelector('#message').value === 'half a thou'")


def test_two_tabs_show_what_either_asks(browser: RealBrowser, open_scripted: OpenScripted):
    site = open_scripted({"answers": ["An answer."]})
    browser.open(f"{site.url}two")
    browser.wait_for(READY)
    browser.run(TELL, ["#one", "First?"])
    hash_of = "() => document.querySelector('#one').contentWindow.location.hash"
    address = browser.wait_for(hash_of)
    # What isn't kept yet can't be opened.
    browser.wait_for(LISTED_IN_BOTH)
    browser.run(
        "(hash) => void (document.querySelector('#two').contentWindow.location.hash = hash)",
        address,
    )
    browser.wait_for(BOTH_SHOW, ["First?", "An answer."])
    browser.wait_for(SETTLED)
    browser.wait_for(READY)
    browser.run(TELL, ["#two", "Second?"])
    browser.wait_for(BOTH_SHOW, ["First?", "An answer.", "Second?", "An answer."])
    assert browser.problems() == []


def test_versions(browser: RealBrowser, open_scripted: OpenScripted):
    start(browser, open_scripted({"answers": ["One.", "Two."]}).url)
    ask(browser, "Number?")
    click_button(browser, "Regenerate")
    browser.wait_for_text(".versions", "2/2")
    browser.wait_for_text(ANSWER, "Two.")
    click_button(browser, "Earlier version")
    browser.wait_for_text(ANSWER, "One.")
    assert browser.text(".versions") == "1/2"
    assert browser.problems() == []


def test_search(browser: RealBrowser, open_scripted: OpenScripted):
    start(browser, open_scripted({"answers": ["About pears.", "About cats."]}).url)
    ask(browser, "First")
    click_button(browser, "New chat")
    browser.wait_for("() => document.querySelectorAll('article').length === 0")
    ask(browser, "Second")
    browser.wait_for(LISTED, ["Second", "First"])
    browser.type("#search", "pears")
    browser.wait_for(LISTED, ["First"])
    browser.type("#search", "x")
    browser.wait_for_text("#no-matches", "No conversation has these words.")
    assert browser.problems() == []


def test_export_and_import(browser: RealBrowser, open_scripted: OpenScripted):
    site = open_scripted({"answers": ["One."]})
    start(browser, site.url)
    ask(browser, "Number?")
    browser.run(CATCH)
    browser.click("#export-all")
    browser.click("#export-all-json")
    text = browser.wait_for("() => window.saved")
    assert len(json.loads(text)["conversations"]) == 1
    other = open_scripted({})
    start(browser, other.url)
    browser.run(IMPORT, text)
    browser.wait_for(LISTED, ["Number?"])
    browser.click("#conversations a")
    browser.wait_for_text(ANSWER, "One.")
    assert browser.run(SHOWN) == ["Number?", "One."]
    assert browser.problems() == []


def test_streaming_shows_what_the_whole_shows(browser: RealBrowser, open_scripted: OpenScripted):
    start(browser, open_scripted({}).url)
    differs = """(text) => fake.streamed(text).then((all) =>
      all.find(({ grown, whole }) => grown !== whole) ?? null)"""
    for name, text in CASES.items():
        assert browser.run(differs, text) is None, name


def test_menus_and_dialogs_by_keyboard(browser: RealBrowser, open_scripted: OpenScripted):
    start(browser, open_scripted({"answers": ["One."]}).url)
    ask(browser, "Number?")
    more = "[id^=more-]"
    browser.wait_for("(more) => document.querySelector(more) !== null", more)
    browser.press(more, "Enter")
    browser.wait_for("() => document.querySelector('[popover]:popover-open') !== null")
    browser.press("[popover]:popover-open button", "Escape")
    browser.wait_for("() => document.querySelector('[popover]:popover-open') === null")
    assert browser.run(FOCUSED, more)
    for opener, dialog in (
        ("#settings-button", "#settings-dialog"),
        ("#model-button", "#models-dialog"),
    ):
        browser.press(opener, "Enter")
        browser.wait_for("(dialog) => document.querySelector(dialog).open", dialog)
        assert browser.run(FOCUSED, f"{dialog} *")
        browser.press(f"{dialog} button", "Escape")
        browser.wait_for("(dialog) => !document.querySelector(dialog).open", dialog)
        assert browser.run(FOCUSED, opener)
    assert browser.problems() == []


def test_stop_by_keyboard(browser: RealBrowser, open_scripted: OpenScripted):
    start(browser, open_scripted({"manualAnswer": True}).url)
    send(browser, "Story?")
    browser.run("() => fake.engine.push('Once upon')")
    browser.wait_for_text(ANSWER, "Once upon")
    browser.press("#message", "Escape")
    browser.wait_for_text("article.assistant .note", "Stopped.")
    assert count(browser, "article") == 2


@pytest.mark.parametrize("size", [(1280, 800), PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(
    browser: RealBrowser, open_scripted: OpenScripted, size: tuple[int, int]
):
    browser.resize(*size)
    answers = [PROSE, f"{TABLE}\n\n{CODE}\n\n{RIGHT_TO_LEFT}"]
    start(browser, open_scripted({"answers": answers}).url)
    ask(browser, "First?")
    ask(browser, "Second?")
    browser.run(LOAD_AXE)
    assert browser.run(AXE_VIOLATIONS) == []
    for opener, dialog in (
        ("#settings-button", "#settings-dialog"),
        ("#model-button", "#models-dialog"),
    ):
        browser.click(opener)
        browser.wait_for("(dialog) => document.querySelector(dialog).open", dialog)
        assert browser.run(AXE_VIOLATIONS) == []
        browser.press(f"{dialog} button", "Escape")
        browser.wait_for("(dialog) => !document.querySelector(dialog).open", dialog)
