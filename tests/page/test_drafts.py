"""What is typed and not sent yet: it belongs to its chat, and outlives reloads."""

from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_conversations import choose
from tests.page.test_history import new_chat, reload


def two_chats(open_chat: OpenChat) -> Chat:
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("First?")
    new_chat(chat)
    chat.ask("Second?")
    return chat


def go_to(chat: Chat, title: str) -> None:
    chat.conversations.get_by_role("link", name=title).click()
    expect(chat.texts.first).to_have_text(title)


def test_each_chat_has_its_own(open_chat: OpenChat):
    chat = two_chats(open_chat)
    chat.box.fill("for the second")
    go_to(chat, "First?")
    expect(chat.box).to_have_value("")
    chat.box.fill("for the first")
    new_chat(chat)
    expect(chat.box).to_have_value("")
    chat.box.fill("for a new one")
    reload(chat)
    expect(chat.box).to_have_value("for a new one")
    go_to(chat, "First?")
    expect(chat.box).to_have_value("for the first")
    go_to(chat, "Second?")
    reload(chat)
    expect(chat.box).to_have_value("for the second")


def test_what_is_sent_is_none_any_more(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("First?")
    chat.ask("Second?")
    new_chat(chat)
    expect(chat.box).to_have_value("")
    go_to(chat, "First?")
    reload(chat)
    expect(chat.box).to_have_value("")


def test_a_deleted_chat_takes_it_along_and_brings_it_back(open_chat: OpenChat):
    chat = two_chats(open_chat)
    chat.box.fill("and")
    choose(chat, "Second?", "Delete")
    expect(chat.box).to_have_value("")
    assert "and" not in chat.page.evaluate("Object.values({ ...localStorage })")
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.texts.first).to_have_text("Second?")
    expect(chat.box).to_have_value("and")
    expect(chat.box).to_be_focused()
