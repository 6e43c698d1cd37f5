"""What the page does where the browser's storage is full, lost, missing or of another version."""

import pytest
from playwright.sync_api import expect

from tests.page.conftest import OpenChat
from tests.page.test_conversations import choose
from tests.page.test_history import kept_texts, new_chat, titles

FULL = """
globalThis.full = false;
const put = IDBObjectStore.prototype.put;
IDBObjectStore.prototype.put = function (...values) {
  if (full) throw new DOMException("full", "QuotaExceededError");
  return put.apply(this, values);
};
"""
CONNECTIONS = """
globalThis.connections = [];
const { transaction } = IDBDatabase.prototype;
IDBDatabase.prototype.transaction = function (...values) {
  connections.push(this);
  return transaction.apply(this, values);
};
"""
FIRST_VERSION = """
const opening = indexedDB.open("mlc-edge-chat", 1);
opening.onupgradeneeded = () => {
  const database = opening.result;
  const conversations = database.createObjectStore("conversations", { keyPath: "id" });
  const messages = database.createObjectStore("messages", { keyPath: ["conversationId", "position"] });
  conversations.put({ id: "old", title: "Old", named: false, createdAt: 1, updatedAt: 1, settings: {} });
  ["First?", "One.", "Second?", "Two."].forEach((content, position) => messages.put({
    conversationId: "old", position, content, createdAt: 1, state: "stop",
    role: position % 2 ? "assistant" : "user",
  }));
};
opening.onsuccess = () => opening.result.close();
"""


def test_full_storage_is_told_and_the_chat_goes_on(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]}, init=FULL)
    chat.ask("Kept")
    chat.expect_kept()
    chat.page.evaluate("() => { full = true; }")
    chat.ask("Lost")
    expect(chat.page.locator(".notice.warning")).to_contain_text("storage is full")
    expect(chat.texts).to_have_text(["Kept", "One.", "Lost", "Two."])
    assert kept_texts(chat) == ["Kept", "One."]


def test_without_a_database_conversations_last_as_long_as_the_page(open_chat: OpenChat):
    chat = open_chat(
        {"answers": ["One.", "Two.", "Three."]},
        init="Object.defineProperty(window, 'indexedDB', { value: undefined });",
    )
    expect(chat.page.locator(".notice.warning")).to_contain_text("keeps nothing")
    chat.ask("Apples?")
    chat.ask("Pears?")
    new_chat(chat)
    chat.ask("Plums?")
    assert titles(chat) == ["Plums?", "Apples?"]
    chat.conversations.get_by_role("link", name="Apples?").click()
    expect(chat.texts).to_have_text(["Apples?", "One.", "Pears?", "Two."])
    chat.page.get_by_role("button", name="Regenerate").last.click()
    expect(chat.answers.last).to_contain_text("Three.")
    choose(chat, "Plums?", "Delete")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Apples?"])
    chat.page.get_by_role("button", name="Undo").click()
    chat.conversations.get_by_role("link", name="Plums?").click()
    expect(chat.texts.first).to_have_text("Plums?")
    chat.conversations.get_by_role("link", name="Apples?").click()
    expect(chat.texts).to_have_text(["Apples?", "One.", "Pears?", "Three."])


def test_a_lost_connection_to_the_database_is_made_again(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]}, init=CONNECTIONS)
    chat.ask("First?")
    chat.expect_kept()
    # Browsers close it for pages in the background, and say so at the next use.
    chat.page.evaluate("connections.forEach((connection) => connection.close())")
    chat.ask("Second?")
    expect(chat.page.locator(".notice")).to_have_count(0)
    chat.reload()
    expect(chat.texts).to_have_text(["First?", "One.", "Second?", "Two."])


def test_answers_come_while_the_database_does_not_answer(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]}, init=CONNECTIONS)
    chat.ask("First?")
    chat.expect_kept()
    chat.page.evaluate("""() => {
      IDBDatabase.prototype.transaction = () => { throw new DOMException("gone", "UnknownError"); };
    }""")
    chat.ask("Second?")
    expect(chat.page.locator(".notice.warning")).to_contain_text("read or saved")
    expect(chat.texts).to_have_text(["First?", "One.", "Second?", "Two."])


@pytest.mark.parametrize("asked_before", [0, 1])
def test_what_a_full_storage_refused_is_kept_once_there_is_room(
    open_chat: OpenChat, asked_before: int
):
    turns = ["First?", "One.", "Second?", "Two.", "Third?", "Three."]
    chat = open_chat({"answers": turns[1::2]}, init=FULL)
    for at, question in enumerate(turns[::2]):
        if at == asked_before:
            chat.expect_kept()
            chat.page.evaluate("() => { full = true; }")
        if at == 2:
            expect(chat.page.locator(".notice.warning")).to_contain_text("storage is full")
            chat.page.evaluate("() => { full = false; }")
        chat.ask(question)
    expect(chat.conversations.get_by_role("link")).to_have_text(["First?"])
    expect(chat.page.locator(".notice.warning")).to_have_count(0)
    chat.reload()
    expect(chat.texts).to_have_text(turns)


def test_conversations_of_the_first_version_are_taken_over(open_chat: OpenChat):
    chat = open_chat({"answers": ["Three."]}, init=FIRST_VERSION)
    chat.conversations.get_by_role("link", name="Old").click()
    expect(chat.texts).to_have_text(["First?", "One.", "Second?", "Two."])
    chat.ask("Third?")
    sent = [message["content"] for message in chat.requests()[-1]["messages"]]
    assert sent == ["First?", "One.", "Second?", "Two.", "Third?"]


def test_a_deletion_that_fails_is_told_and_deletes_nothing(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]}, init=CONNECTIONS)
    chat.ask("First?")
    chat.expect_kept()
    chat.page.evaluate("""() => {
      globalThis.working = IDBDatabase.prototype.transaction;
      IDBDatabase.prototype.transaction = () => { throw new DOMException("gone", "UnknownError"); };
    }""")
    choose(chat, "First?", "Delete")
    expect(chat.page.locator(".notice.warning")).to_contain_text("read or saved")
    expect(chat.page.get_by_role("button", name="Undo")).to_have_count(0)
    chat.page.evaluate("() => { IDBDatabase.prototype.transaction = working; }")
    chat.ask("Second?")
    chat.reload()
    expect(chat.texts).to_have_text(["First?", "One.", "Second?", "Two."])


def test_a_tab_with_the_first_version_that_is_in_the_way_is_told(open_chat: OpenChat):
    other = open_chat()
    page = other.page.context.new_page()
    page.route("**/blank", lambda route: route.fulfill(body="<p>", content_type="text/html"))
    page.goto(f"{other.page.url}blank")
    page.evaluate("""() => new Promise((resolve) => {
      indexedDB.deleteDatabase("mlc-edge-chat");
      const opening = indexedDB.open("mlc-edge-chat", 1);
      opening.onsuccess = () => { globalThis.held = opening.result; resolve(); };
    })""")
    other.page.reload()
    expect(other.page.locator(".notice.warning")).to_contain_text("Another tab")
    other.ask("All the same?")
    page.close()
