"""Conversations as files that can be taken back, and finding one among many."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_conversations import choose, downloaded
from tests.page.test_history import kept, new_chat, reload, titles


def with_versions(open_chat: OpenChat) -> Chat:
    """Two chats, in the first of which an answer was redone."""
    chat = open_chat({"answers": ["One.", "Another one.", "Two."]})
    chat.ask("First?")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.texts).to_have_text(["First?", "Another one."])
    chat.expect_engine("ready")
    new_chat(chat)
    chat.ask("Second?")
    return chat


def export_all(chat: Chat) -> str:
    with chat.page.expect_download() as download:
        chat.page.get_by_role("button", name="Export all").click()
    return Path(download.value.path()).read_text()


def take(chat: Chat, content: str, name: str = "chats.json") -> None:
    file = {"name": name, "mimeType": "application/json", "buffer": content.encode()}
    chat.page.locator("#import-file").set_input_files([file])


def test_everything_comes_back_on_another_device(open_chat: OpenChat):
    chat = with_versions(open_chat)
    before, exported = kept(chat), export_all(chat)
    other = open_chat()
    take(other, exported)
    expect(other.conversations.get_by_role("link")).to_have_text(["Second?", "First?"])
    assert kept(other) == before
    other.conversations.get_by_role("link", name="First?").click()
    expect(other.texts).to_have_text(["First?", "Another one."])
    other.answers.last.get_by_role("button", name="Earlier version").click()
    expect(other.texts).to_have_text(["First?", "One."])


def test_what_is_there_stays_as_it_is(open_chat: OpenChat):
    chat = with_versions(open_chat)
    exported = export_all(chat)
    choose(chat, "First?", "Rename")
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("Mine")
    dialog.get_by_role("button", name="Rename").click()
    expect(chat.conversations).to_contain_text("Mine")
    before = kept(chat)
    take(chat, exported)
    expect(chat.page.get_by_role("region", name="Notifications")).to_contain_text("2 conversations")
    assert kept(chat) == before


def test_one_conversation_can_be_taken_back_alone(open_chat: OpenChat):
    chat = with_versions(open_chat)
    exported = downloaded(chat.page, chat, "First?", "Export as JSON")
    choose(chat, "First?", "Delete")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Second?"])
    take(chat, exported)
    expect(chat.conversations.get_by_role("link")).to_have_text(["Second?", "First?"])


def damaged(change: dict[str, Any]) -> str:
    message = {"id": "b", "parent": None, "role": "user", "content": "Hi", **change}
    conversation = {"id": "a", "title": "A", "messages": [message]}
    archive = {"format": "mlc-edge-conversations", "version": 2, "conversations": [conversation]}
    return json.dumps(archive)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no JSON", "holds no conversations"),
        ("[]", "holds no conversations"),
        ('{"format": "mlc-edge-conversations", "version": 9, "conversations": []}', "version 9"),
        (damaged({"role": "system"}), "Message 1 of conversation 1"),
        (damaged({"content": 5}), "Message 1 of conversation 1"),
        (damaged({"parent": {}}), "Message 1 of conversation 1"),
        (damaged({"id": "../x"}), "Message 1 of conversation 1"),
    ],
)
def test_a_file_of_something_else_changes_nothing(open_chat: OpenChat, content: str, problem: str):
    chat = open_chat()
    take(chat, content, "wrong.json")
    expect(chat.page.locator(".notice.warning")).to_contain_text("wrong.json")
    expect(chat.page.locator(".notice.warning")).to_contain_text(problem)
    assert kept(chat) == {"conversations": [], "messages": []}


def test_conversations_are_found_by_their_words(open_chat: OpenChat):
    chat = with_versions(open_chat)
    search = chat.page.get_by_role("searchbox", name="Search conversations")
    # In a title, in an answer, and in a version that isn't shown.
    for words, found in (("second", ["Second?"]), ("TWO.", ["Second?"]), ("one.", ["First?"])):
        search.fill(words)
        expect(chat.conversations.get_by_role("link")).to_have_text(found)
    search.fill("nowhere")
    expect(chat.conversations.get_by_role("link")).to_have_count(0)
    expect(chat.page.get_by_text("No conversation has these words.")).to_be_visible()
    search.fill("")
    expect(chat.conversations.get_by_role("link")).to_have_count(2)
    reload(chat)
    assert titles(chat) == ["Second?", "First?"]
