"""Of a temporary chat nothing is kept, until somebody wants it."""

import json
from typing import Any

from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_history import kept, kept_texts, new_chat, titles
from tests.page.test_storage import FULL
from tests.page.test_tabs import second_tab

NOTHING = {"conversations": [], "messages": []}
TOO_LONG = {"code": "context_length_exceeded", "message": "Too long.", "remedy": "Start a new one."}
HEAR = """
globalThis.heard = [];
new BroadcastChannel("mlc-edge-chat").onmessage = ({ data }) => heard.push(data);
"""


def begin(chat: Chat) -> None:
    chat.page.locator("#temporary-chat").click()
    expect(chat.page.locator("#temporary")).to_be_visible()


def temporary(open_chat: OpenChat, script: dict[str, Any], **options: Any) -> Chat:
    chat = open_chat(script, **options)
    begin(chat)
    return chat


def stored(chat: Chat) -> str:
    """All that the browser's small storages have."""
    return chat.page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")


def keep(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Keep", exact=True).click()
    expect(chat.page.locator("#temporary")).to_be_hidden()


def test_nothing_of_it_is_kept(open_chat: OpenChat):
    chat = temporary(open_chat, {"answers": ["One.", "Two.", "Three."]}, init=HEAR)
    expect(chat.page.get_by_role("region", name="Temporary chat")).to_contain_text(
        "nothing of this chat is kept"
    )
    expect(chat.box).to_be_focused()
    chat.ask("Secret?")
    chat.ask("More?")
    chat.page.get_by_role("button", name="Regenerate").last.click()
    expect(chat.texts.last).to_have_text("Three.")
    chat.expect_engine("ready")
    chat.answers.last.get_by_role("button", name="Earlier version").click()
    chat.box.fill("Draft")
    assert kept(chat) == NOTHING
    assert titles(chat) == []
    expect(chat.page).to_have_title("Temporary chat · mlc-edge")
    everything = stored(chat) + chat.address
    for word in ("Secret", "Draft", "Two"):
        assert word not in everything
    chat.page.evaluate(
        "new BroadcastChannel('mlc-edge-chat').postMessage({ id: 'x', kind: 'changed' })"
    )
    chat.page.wait_for_function("heard.length > 0")
    assert chat.page.evaluate("heard.length") == 1
    assert [m["content"] for m in chat.requests()[1]["messages"]] == ["Secret?", "One.", "More?"]


def test_it_ends_when_it_is_left_or_reloaded(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("Kept?")
    begin(chat)
    chat.ask("Secret?")
    new_chat(chat)
    expect(chat.page.locator("#temporary")).to_be_hidden()
    begin(chat)
    expect(chat.texts).to_have_count(0)
    chat.ask("Secret?")
    chat.reload()
    expect(chat.texts).to_have_count(0)
    expect(chat.page.locator("#temporary")).to_be_visible()
    chat.page.go_back()
    expect(chat.page.locator("#temporary")).to_be_hidden()
    assert kept_texts(chat) == ["Kept?", "One."]


def test_leaving_it_ends_its_answer(open_chat: OpenChat):
    chat = temporary(open_chat, {"manualAnswer": True})
    chat.send("Secret?")
    chat.engine("push", "So")
    expect(chat.texts.last).to_have_text("So")
    new_chat(chat)
    chat.expect_engine("ready")
    chat.send("Other?")
    chat.engine("push", "Yes.")
    chat.engine("finish")
    chat.expect_engine("ready")
    assert kept_texts(chat) == ["Other?", "Yes."]


def test_it_is_kept_once_somebody_wants_it(open_chat: OpenChat):
    chat = temporary(open_chat, {"answers": ["One."]})
    chat.ask("Worth it?")
    chat.box.fill("Draft")
    keep(chat)
    expect(chat.box).to_be_focused()
    expect(chat.conversations.get_by_role("link")).to_have_text(["Worth it?"])
    expect(chat.page).to_have_title("Worth it? · mlc-edge")
    chat.reload()
    expect(chat.texts).to_have_text(["Worth it?", "One."])
    expect(chat.box).to_have_value("Draft")
    chat.ask("And?")
    assert kept_texts(chat) == ["Worth it?", "One.", "And?", "One."]


def test_it_can_be_kept_while_it_is_answered(open_chat: OpenChat):
    chat = temporary(open_chat, {"manualAnswer": True})
    chat.send("Worth it?")
    chat.engine("push", "Yes")
    expect(chat.texts.last).to_have_text("Yes")
    keep(chat)
    chat.engine("push", ", it is.")
    chat.engine("finish")
    chat.expect_engine("ready")
    chat.reload()
    expect(chat.texts).to_have_text(["Worth it?", "Yes, it is."])


def test_kept_before_its_first_question_it_is_a_new_chat(open_chat: OpenChat):
    chat = temporary(open_chat, {})
    keep(chat)
    assert chat.address.endswith("/")
    chat.ask("Hello?")
    assert titles(chat) == ["Hello?"]


def test_what_was_typed_for_a_new_chat_comes_along(open_chat: OpenChat):
    chat = open_chat({})
    chat.box.fill("Secret draft")
    chat.page.get_by_role("button", name="Temporary chat").last.click()
    expect(chat.box).to_have_value("Secret draft")
    assert "Secret" not in stored(chat)
    new_chat(chat)
    expect(chat.box).to_have_value("")


def test_a_question_that_is_too_long_stays_unkept(open_chat: OpenChat):
    chat = temporary(open_chat, {"answers": ["One.", TOO_LONG]})
    chat.ask("First?")
    chat.send("Secret?")
    chat.page.get_by_role("button", name="New chat from here").click()
    expect(chat.box).to_have_value("Secret?")
    expect(chat.page.locator("#temporary")).to_be_visible()
    assert "Secret" not in stored(chat)


def test_other_tabs_do_not_see_it(open_chat: OpenChat):
    chat = temporary(open_chat, {"answers": ["One."]})
    chat.ask("Secret?")
    other = second_tab(chat, {})
    expect(other.texts).to_have_count(0)
    assert json.dumps(kept(other)) == json.dumps(NOTHING)


def test_on_a_phone_it_begins_in_the_drawer_and_fits(open_chat: OpenChat):
    chat = open_chat({"answers": ["One."]}, viewport={"width": 360, "height": 640})
    chat.ask("Kept?")
    chat.page.get_by_role("button", name="Conversations", exact=True).click()
    chat.page.locator("#temporary-chat").press("Enter")
    expect(chat.box).to_be_focused()
    expect(chat.page.locator("body")).not_to_have_class("drawer-open")
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 360
    chat.ask("Secret?")
    chat.page.get_by_role("button", name="Keep", exact=True).press("Enter")
    expect(chat.box).to_be_focused()
    expect(chat.page.get_by_role("status").last).to_contain_text("is kept on this device now")


def test_what_cannot_be_kept_is_not_said_to_be(open_chat: OpenChat):
    chat = temporary(open_chat, {"answers": ["One."]}, init=FULL)
    chat.ask("Secret?")
    chat.page.evaluate("() => { full = true; }")
    keep(chat)
    expect(chat.page.locator(".notice.warning")).to_contain_text("storage is full")
    notifications = chat.page.get_by_role("region", name="Notifications")
    expect(notifications).not_to_contain_text("is kept on this device")
