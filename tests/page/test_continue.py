"""An answer that broke off is gone on with: what comes is appended to it."""

import json

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_daemon import NO_WEBGPU, USAGE, Daemon, chunk
from tests.page.test_history import kept, kept_texts, wait_until_kept
from tests.page.test_tabs import second_tab

PROBLEM = {"code": "internal", "message": "It broke.", "remedy": "Try again."}
TOO_LONG = {**PROBLEM, "code": "context_length_exceeded"}


def broken_off(open_chat: OpenChat, how: str, **options: object) -> Chat:
    chat = open_chat({"manualAnswer": True}, **options)
    chat.send("Story?")
    chat.engine("push", "Once")
    expect(chat.texts.last).to_have_text("Once")
    chat.engine("push", " upon")
    expect(chat.texts.last).to_have_text("Once upon")
    if how == "length":
        chat.engine("finish", "length")
    elif how == "error":
        chat.engine("break", PROBLEM)
    elif how == "stopped":
        chat.stop_button.click()
    else:
        wait_until_kept(chat, "Once upon")
        chat.reload()
    chat.expect_engine("ready")
    return chat


def go_on(chat: Chat) -> None:
    chat.expect_kept()
    chat.page.get_by_role("button", name="Continue", exact=True).click()
    chat.expect_engine("generating")


@pytest.mark.parametrize("how", ["length", "error", "stopped", "closed"])
def test_a_broken_off_answer_goes_on(open_chat: OpenChat, how: str):
    chat = broken_off(open_chat, how)
    go_on(chat)
    expect(chat.box).to_be_focused()
    chat.engine("push", " a time")
    expect(chat.texts).to_have_text(["Story?", "Once upon a time"])
    chat.engine("finish")
    chat.expect_engine("ready")
    request = chat.requests()[-1]
    assert request["continue_final_message"] is True
    assert request["messages"] == [
        {"role": "user", "content": "Story?"},
        {"role": "assistant", "content": "Once upon"},
    ]
    expect(chat.page.get_by_role("button", name="Continue", exact=True)).to_have_count(0)
    expect(chat.answers.last).not_to_contain_text("It broke.")
    chat.reload()
    expect(chat.texts).to_have_text(["Story?", "Once upon a time"])


def test_no_other_request_says_that_it_goes_on(open_chat: OpenChat):
    chat = broken_off(open_chat, "stopped")
    chat.send("And?")
    chat.expect_engine("generating")
    assert all("continue_final_message" not in request for request in chat.requests())


@pytest.mark.parametrize("how", ["stopped", "error"])
def test_what_was_there_stays_if_nothing_comes(open_chat: OpenChat, how: str):
    chat = broken_off(open_chat, "length")
    go_on(chat)
    if how == "stopped":
        chat.page.keyboard.press("Escape")
    else:
        chat.engine("break", PROBLEM)
        expect(chat.answers.last).to_contain_text("It broke.")
    chat.expect_engine("ready")
    expect(chat.page.get_by_role("button", name="Continue", exact=True)).to_be_visible()
    chat.reload()
    expect(chat.texts).to_have_text(["Story?", "Once upon"])


def test_whole_answers_are_not_gone_on_with(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", TOO_LONG]})
    chat.ask("First?")
    button = chat.page.get_by_role("button", name="Continue", exact=True)
    expect(button).to_have_count(0)
    chat.send("Second?")
    expect(chat.answers.last).to_contain_text("It broke.")
    expect(button).to_have_count(0)


def test_only_the_last_answer_goes_on(open_chat: OpenChat):
    chat = broken_off(open_chat, "stopped")
    chat.send("And?")
    chat.engine("push", "Then")
    chat.engine("finish", "length")
    chat.expect_engine("ready")
    expect(chat.page.get_by_role("button", name="Continue", exact=True)).to_have_count(1)


def test_tokens_of_both_parts_are_counted(open_chat: OpenChat):
    chat = broken_off(open_chat, "length")
    go_on(chat)
    chat.engine("finish")
    chat.expect_engine("ready")
    chat.answers.last.locator("summary").click()
    expect(chat.answers.last.locator("dl")).to_contain_text("18 tokens")


def test_what_another_tab_added_is_gone_on_from(open_chat: OpenChat):
    one = broken_off(open_chat, "length", init="BroadcastChannel.prototype.postMessage = () => {};")
    two = second_tab(one, {"manualAnswer": True})
    go_on(one)
    one.engine("push", " a time")
    one.engine("finish", "length")
    one.expect_engine("ready")
    one.expect_kept()
    expect(two.texts.last).to_have_text("Once upon")
    go_on(two)
    assert two.requests()[-1]["messages"][-1]["content"] == "Once upon a time"
    two.engine("push", " there was")
    two.engine("finish")
    two.expect_engine("ready")
    assert kept_texts(two) == ["Story?", "Once upon a time there was"]


def test_one_tab_at_a_time_goes_on(open_chat: OpenChat):
    one = broken_off(open_chat, "length")
    two = second_tab(one, {"manualAnswer": True})
    # Neither hears of the other.
    two.page.evaluate("BroadcastChannel.prototype.postMessage = () => undefined")
    one.page.evaluate("BroadcastChannel.prototype.postMessage = () => undefined")
    go_on(one)
    one.expect_kept()
    two.page.get_by_role("button", name="Continue", exact=True).click()
    expect(two.page.get_by_role("button", name="Continue", exact=True)).to_have_count(0)
    assert two.requests() == []
    one.engine("push", " a time")
    one.engine("finish")
    expect(two.texts.last).to_have_text("Once upon a time")
    assert [message["state"] for message in kept(one)["messages"][1:]] == ["stop"]


def test_a_daemon_is_asked_in_the_same_words(open_chat: OpenChat):
    daemon = Daemon(" a time")
    events = [chunk("Once upon"), chunk(finish="length"), {"choices": [], "usage": USAGE}]
    whole = daemon.body
    daemon.body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    chat = open_chat(daemon=daemon, init=NO_WEBGPU)
    chat.ask("Story?")
    chat.expect_kept()
    daemon.body = whole
    chat.page.get_by_role("button", name="Continue", exact=True).click()
    expect(chat.texts.last).to_have_text("Once upon a time")
    assert "continue_final_message" not in daemon.asked[0]
    assert daemon.asked[1]["continue_final_message"] is True
    assert daemon.asked[1]["messages"][-1] == {"role": "assistant", "content": "Once upon"}
