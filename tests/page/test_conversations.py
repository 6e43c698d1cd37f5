"""Conversations are kept on the device: reload, rename, delete, export."""

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.page.conftest import Chat, OpenChat


def choose(chat: Chat, title: str, item: str) -> None:
    chat.open_menu(title)
    chat.page.get_by_role("button", name=item, exact=True).or_(
        chat.page.get_by_role("menuitem", name=item, exact=True)
    ).click()


def downloaded(page: Page, chat: Chat, title: str, item: str) -> str:
    with page.expect_download() as download:
        choose(chat, title, item)
    return Path(download.value.path()).read_text()


def test_conversations_survive_a_reload(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Remember me")
    chat.reload()
    expect(chat.log).to_contain_text("Remember me")
    expect(chat.log).to_contain_text("How can I help you?")


def test_new_chat_starts_empty_and_keeps_the_old(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("First topic")
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.answers).to_have_count(0)
    chat.ask("Second topic")
    chat.conversations.get_by_text("First topic").click()
    expect(chat.questions.last).to_contain_text("First topic")


def test_rename(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Old name")
    choose(chat, "Old name", "Rename")
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("New name")
    dialog.get_by_role("button", name="Rename").click()
    expect(chat.conversations).to_contain_text("New name")
    chat.page.reload()
    expect(chat.conversations).to_contain_text("New name")


def test_delete_can_be_undone(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Precious")
    choose(chat, "Precious", "Delete")
    expect(chat.conversations).not_to_contain_text("Precious")
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.conversations).to_contain_text("Precious")


def test_export(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Write this down")
    markdown = downloaded(chat.page, chat, "Write this down", "Export as Markdown")
    assert "Write this down" in markdown
    assert "Hello! How can I help you?" in markdown
    exported = json.loads(downloaded(chat.page, chat, "Write this down", "Export as JSON"))
    assert "How can I help you?" in json.dumps(exported)
