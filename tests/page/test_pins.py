"""Pinned conversations stand first, wherever they are looked at."""

from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_archive import export_all, take
from tests.page.test_conversations import choose
from tests.page.test_history import kept, new_chat
from tests.page.test_tabs import rename, second_tab


def three(open_chat: OpenChat) -> Chat:
    chat = open_chat()
    for question in ("Apples?", "Pears?", "Plums?"):
        new_chat(chat)
        chat.ask(question)
    return chat


def expect_parts(chat: Chat, **parts: list[str]) -> None:
    expect(chat.conversations.get_by_role("heading")).to_have_text(list(parts))
    for name, titles in parts.items():
        part = chat.conversations.get_by_role("list", name=name)
        expect(part.get_by_role("link")).to_have_text(titles)


def test_pinned_conversations_stand_first(open_chat: OpenChat):
    chat = three(open_chat)
    expect(chat.conversations.get_by_role("heading")).to_have_count(0)
    choose(chat, "Apples?", "Pin")
    expect_parts(chat, Pinned=["Apples?"], Recent=["Plums?", "Pears?"])
    expect(chat.page.get_by_role("button", name="Options for Apples?")).to_be_focused()
    choose(chat, "Pears?", "Pin")
    expect_parts(chat, Pinned=["Pears?", "Apples?"], Recent=["Plums?"])
    chat.reload()
    expect_parts(chat, Pinned=["Pears?", "Apples?"], Recent=["Plums?"])
    choose(chat, "Apples?", "Unpin")
    expect_parts(chat, Pinned=["Pears?"], Recent=["Plums?", "Apples?"])
    choose(chat, "Pears?", "Unpin")
    expect(chat.conversations.get_by_role("heading")).to_have_count(0)
    expect(chat.conversations.get_by_role("link")).to_have_text(["Plums?", "Pears?", "Apples?"])


def test_all_of_them_can_be_pinned(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Alone?")
    choose(chat, "Alone?", "Pin")
    expect_parts(chat, Pinned=["Alone?"])


def test_other_tabs_and_devices_have_them_first_too(open_chat: OpenChat):
    one = three(open_chat)
    two = second_tab(one, {})
    choose(one, "Pears?", "Pin")
    expect_parts(two, Pinned=["Pears?"], Recent=["Plums?", "Apples?"])
    other = open_chat()
    take(other, export_all(two))
    expect_parts(other, Pinned=["Pears?"], Recent=["Plums?", "Apples?"])


def test_what_another_tab_unpinned_and_renamed_stays_so(open_chat: OpenChat):
    one = three(open_chat)
    two = second_tab(one, {})
    choose(one, "Plums?", "Pin")
    rename(one, "Plums?", "Mine")
    expect_parts(two, Pinned=["Mine"], Recent=["Pears?", "Apples?"])
    choose(two, "Mine", "Unpin")
    rename(two, "Mine", "Yours")
    expect(one.conversations.get_by_role("link")).to_have_text(["Yours", "Pears?", "Apples?"])
    one.ask("And?")
    expect(one.conversations.get_by_role("link")).to_have_text(["Yours", "Pears?", "Apples?"])
    two.reload()
    expect(two.conversations.get_by_role("link")).to_have_text(["Yours", "Pears?", "Apples?"])


def test_a_pin_takes_nothing_back(open_chat: OpenChat):
    one = three(open_chat)
    two = second_tab(one, {})
    # This tab doesn't hear of the new name.
    one.page.evaluate("BroadcastChannel.prototype.postMessage = () => undefined")
    rename(one, "Pears?", "Fruit")
    expect(one.conversations).to_contain_text("Fruit")
    choose(two, "Pears?", "Pin")
    expect_parts(two, Pinned=["Fruit"], Recent=["Plums?", "Apples?"])
    choose(one, "Fruit", "Delete")
    expect(one.conversations).not_to_contain_text("Fruit")
    choose(two, "Fruit", "Unpin")
    expect(two.conversations.get_by_role("link")).to_have_text(["Plums?", "Apples?"])
    assert sorted(c["title"] for c in kept(one)["conversations"]) == ["Apples?", "Plums?"]
