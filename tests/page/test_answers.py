"""Asking and reading: streamed answers, stopping, regenerating, copying, Markdown, announcements."""

import re

import pytest
from playwright.sync_api import expect

from tests.page.conftest import OpenChat
from tests.page.test_history import kept_texts

HOSTILE = (
    "**bold** <script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> "
    "[click](javascript:window.hacked=3) <a href='https://example.org'>fine</a>"
)


def test_answer_streams_then_can_be_stopped(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Hello")
    chat.expect_engine("generating")
    chat.engine("push", "First words")
    expect(chat.answers.last).to_contain_text("First words")
    chat.stop_button.click()
    chat.expect_engine("ready")
    expect(chat.answers.last).to_contain_text("First words")
    expect(chat.box).to_be_enabled()


def test_speed_is_shown_and_announced_once(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    announcer = chat.page.get_by_role("status").first
    chat.send("Hello")
    chat.engine("push", "Good ")
    expect(chat.answers.last).to_contain_text("Good")
    expect(chat.log).to_have_attribute("aria-live", "off")
    expect(announcer).not_to_contain_text("Good")
    chat.engine("push", "day.")
    chat.engine("finish")
    expect(chat.answers.last).to_contain_text("12.3 tokens/s")
    expect(announcer).to_have_text("Assistant: Good day.")


def test_regenerate_asks_again_with_the_same_turns(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("Count.")
    expect(chat.answers.last).to_contain_text("One.")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.answers.last).to_contain_text("Two.")
    expect(chat.answers).to_have_count(1)
    first, second = chat.requests()
    assert first["messages"] == second["messages"]


def test_copy_takes_the_markdown(open_chat: OpenChat):
    chat = open_chat(
        {"answers": ["Some **bold** words."]}, permissions=["clipboard-read", "clipboard-write"]
    )
    chat.ask("Say something.")
    chat.page.get_by_role("button", name="Copy answer").click()
    expect(chat.page.get_by_role("region", name="Notifications")).to_contain_text("copied")
    assert chat.page.evaluate("navigator.clipboard.readText()") == "Some **bold** words."


def test_markdown_is_shown_and_code_in_it_is_not_run(open_chat: OpenChat):
    chat = open_chat({"answers": [HOSTILE]})
    chat.ask("Attack me.")
    expect(chat.answers.last.locator("strong")).to_have_text("bold")
    for dangerous in ("script", "img", "[onerror]", "a[href^=javascript]"):
        expect(chat.answers.last.locator(dangerous)).to_have_count(0)
    assert chat.page.evaluate("window.hacked") is None


def test_earlier_turns_go_with_the_question(open_chat: OpenChat):
    chat = open_chat({"answers": ["Hi Ada.", "You are Ada."]})
    chat.ask("I am Ada.")
    chat.ask("Who am I?")
    assert [m["content"] for m in chat.requests()[1]["messages"]] == [
        "I am Ada.",
        "Hi Ada.",
        "Who am I?",
    ]


@pytest.mark.parametrize("piece", ["> ", "- ", "1. ", "*_", "["])
def test_an_answer_that_nests_without_end_is_shown_as_written(open_chat: OpenChat, piece: str):
    text = piece * 6_000 + "x"
    chat = open_chat({"answers": [text, "Fine."]})
    chat.ask("Hello")
    chat.ask("And now?")
    expect(chat.texts.last).to_have_text("Fine.")
    chat.reload()
    expect(chat.texts.last).to_have_text("Fine.")
    assert kept_texts(chat)[1] == text


def test_an_answer_that_takes_the_square_of_its_length_does_not_hold_up_the_page(
    open_chat: OpenChat,
):
    chat = open_chat({"manualAnswer": True})
    chat.page.set_default_timeout(60_000)
    chat.send("Hello")
    source = chat.texts.last.locator(".source")
    for turn in range(20):
        if source.count():
            break
        chat.engine("push", "_a*" * 2_000 + f" part {turn}")
        expect(chat.texts.last).to_contain_text(f"part {turn}", timeout=60_000)
    expect(source).to_have_count(1)
    chat.engine("push", "end")
    chat.engine("finish")
    expect(source).to_have_text(re.compile("end$"))
