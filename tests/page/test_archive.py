"""Conversations as files that can be taken back, and finding one among many."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_conversations import choose, downloaded
from tests.page.test_history import kept, new_chat, titles

COUNT_READS = """
globalThis.reads = 0;
const { getAll } = IDBObjectStore.prototype;
IDBObjectStore.prototype.getAll = function (...values) {
  if (this.name === "messages") reads += 1;
  return getAll.apply(this, values);
};
"""


def with_versions(open_chat: OpenChat) -> Chat:
    """Two chats, in the first of which an answer was redone."""
    chat = open_chat({"answers": ["One.", "Another one.", "Two."]})
    chat.ask("First?")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.texts).to_have_text(["First?", "Another one."])
    chat.expect_engine("ready")
    new_chat(chat)
    chat.ask("Second?")
    chat.expect_kept()
    return chat


def export_all(chat: Chat, form: str = "JSON") -> str:
    chat.page.get_by_role("button", name="Export all").click()
    with chat.page.expect_download() as download:
        chat.page.get_by_role("button", name=f"As {form}").click()
    return Path(download.value.path()).read_text()


def take(chat: Chat, content: str, name: str = "chats.json") -> None:
    take_all(chat, {name: content})


def take_all(chat: Chat, files: dict[str, str]) -> None:
    chosen = [
        {"name": name, "mimeType": "application/json", "buffer": content.encode()}
        for name, content in files.items()
    ]
    chat.page.locator("#import-file").set_input_files(chosen)


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
        (damaged({"role": "system"}), "damaged, at message 1 of conversation 1"),
        (damaged({"content": 5}), "damaged, at message 1 of conversation 1"),
        (damaged({"parent": {}}), "damaged, at message 1 of conversation 1"),
        (damaged({"id": "../x"}), "damaged, at message 1 of conversation 1"),
    ],
)
def test_a_file_of_something_else_changes_nothing(open_chat: OpenChat, content: str, problem: str):
    chat = open_chat()
    take(chat, content, "wrong.json")
    expect(chat.page.locator(".notice.warning")).to_contain_text("wrong.json")
    expect(chat.page.locator(".notice.warning")).to_contain_text(problem)
    assert kept(chat) == {"conversations": [], "messages": []}


def test_several_files_are_taken_and_what_is_wrong_with_one_is_said(open_chat: OpenChat):
    chat = with_versions(open_chat)
    one = downloaded(chat.page, chat, "First?", "Export as JSON")
    two = downloaded(chat.page, chat, "Second?", "Export as JSON")
    other = open_chat()
    take_all(other, {"one.json": one, "wrong.json": "{}", "two.json": two})
    expect(other.page.locator(".notice.warning")).to_contain_text(
        "wrong.json wasn\u2019t imported."
    )
    assert "one.json" not in other.page.locator(".notice.warning").inner_text()
    expect(other.page.get_by_role("region", name="Notifications")).to_contain_text(
        "2 conversations"
    )
    expect(other.conversations.get_by_role("link")).to_have_text(["Second?", "First?"])


DROP = """([text, target]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([text], "dropped.json", { type: "application/json" }));
  const options = { dataTransfer: carried, bubbles: true, cancelable: true };
  const over = new DragEvent("dragover", options);
  const element = document.querySelector(target);
  element.dispatchEvent(over);
  if (over.defaultPrevented) element.dispatchEvent(new DragEvent("drop", options));
  return over.defaultPrevented;
}"""


def test_files_can_be_dropped_onto_the_list(open_chat: OpenChat):
    chat = with_versions(open_chat)
    exported = export_all(chat)
    other = open_chat()
    assert other.page.evaluate(DROP, [exported, "#no-conversations"])
    expect(other.conversations.get_by_role("link")).to_have_text(["Second?", "First?"])


def test_everything_is_exported_as_one_text(open_chat: OpenChat):
    text = export_all(with_versions(open_chat), "Markdown")
    assert text.split("\n\n") == [
        "# Second?",
        "## You",
        "Second?",
        "## Assistant (pocket-q4f16_1)",
        "Two.",
        "---",
        "# First?",
        "## You",
        "First?",
        "## Assistant (pocket-q4f16_1)",
        "Another one.\n",
    ]


def test_a_search_reads_what_is_kept_once(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two.", "Three."]}, init=COUNT_READS)
    chat.ask("First?")
    chat.expect_kept()
    new_chat(chat)
    search = chat.page.get_by_role("searchbox", name="Search conversations")
    search.press_sequentially("fi")
    expect(chat.conversations.get_by_role("link")).to_have_text(["First?"])
    before = chat.page.evaluate("reads")
    search.press_sequentially("rst")
    search.fill("one.")
    expect(chat.conversations.get_by_role("link")).to_have_text(["First?"])
    assert chat.page.evaluate("reads") == before
    chat.ask("Second?")
    search.fill("two.")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Second?"])


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
    chat.reload()
    assert titles(chat) == ["Second?", "First?"]
