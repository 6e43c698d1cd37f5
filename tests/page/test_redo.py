"""Regenerating and editing: what is asked again, what goes, and what must stay."""

import pytest
from playwright.sync_api import Locator, expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_history import new_chat

PROBLEM = {"code": "internal", "message": "It broke.", "remedy": "Try again."}
TOO_LONG = {
    "code": "context_length_exceeded",
    "message": "The conversation is too long.",
    "remedy": "Start a new one.",
}


def two_turns(open_chat: OpenChat, *later: object) -> Chat:
    chat = open_chat({"answers": ["One.", "Two.", *later]})
    chat.ask("First?")
    chat.ask("Second?")
    return chat


def expect_kept(chat: Chat, *texts: str) -> None:
    """The page shows these messages, and again after a reload."""
    expect(chat.texts).to_have_text(list(texts))
    chat.reload()
    expect(chat.texts).to_have_text(list(texts))


def contents(chat: Chat, request: int = -1) -> list[str]:
    return [message["content"] for message in chat.requests()[request]["messages"]]


def edit(chat: Chat, text: str, question: Locator | None = None) -> None:
    (question or chat.questions.last).get_by_role("button", name="Edit message").click()
    box = chat.page.get_by_role("textbox", name="Edit message")
    box.fill(text)
    box.press("Enter")


def test_regenerating_keeps_earlier_turns(open_chat: OpenChat):
    chat = two_turns(open_chat, "Three.")
    chat.page.get_by_role("button", name="Regenerate").last.click()
    expect(chat.answers.last).to_contain_text("Three.")
    chat.expect_engine("ready")
    assert contents(chat) == ["First?", "One.", "Second?"]
    expect(chat.box).to_be_focused()
    expect_kept(chat, "First?", "One.", "Second?", "Three.")


def test_regenerated_shorter_answer_leaves_nothing_of_the_longer(open_chat: OpenChat):
    chat = open_chat({"answers": ["A long answer.\n\nOf two paragraphs.", "Short."]})
    chat.ask("First?")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.answers.last).to_contain_text("Short.")
    chat.expect_engine("ready")
    expect_kept(chat, "First?", "Short.")


def test_stopped_regeneration_does_not_bring_the_old_answer_back(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("First?")
    chat.engine("push", "Old answer.")
    chat.engine("finish")
    chat.expect_engine("ready")
    chat.page.get_by_role("button", name="Regenerate").click()
    chat.expect_engine("generating")
    chat.page.keyboard.press("Escape")
    chat.expect_engine("ready")
    expect(chat.answers.last).to_contain_text("Stopped before the first word.")
    expect_kept(chat, "First?", "")


def test_any_turn_can_be_redone(open_chat: OpenChat):
    chat = two_turns(open_chat, "Other.", "Another.")
    chat.answers.first.get_by_role("button", name="Regenerate").click()
    expect(chat.texts).to_have_text(["First?", "Other."])
    chat.expect_engine("ready")
    assert contents(chat) == ["First?"]
    chat.answers.first.get_by_role("button", name="Earlier version").click()
    expect(chat.texts).to_have_text(["First?", "One.", "Second?", "Two."])
    edit(chat, "Which?", chat.questions.first)
    expect(chat.texts).to_have_text(["Which?", "Another."])
    chat.expect_engine("ready")
    assert contents(chat) == ["Which?"]


def test_nothing_can_be_redone_while_an_answer_is_written(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("First?")
    chat.engine("push", "Some")
    expect(chat.answers.last).to_contain_text("Some")
    for name in ("Regenerate", "Edit message", "Copy answer"):
        expect(chat.page.get_by_role("button", name=name)).to_have_count(0)


def test_editing_replaces_the_message_and_its_answer(open_chat: OpenChat):
    chat = two_turns(open_chat, "Three.")
    edit(chat, "Other?")
    expect(chat.answers.last).to_contain_text("Three.")
    chat.expect_engine("ready")
    assert contents(chat) == ["First?", "One.", "Other?"]
    expect(chat.box).to_be_focused()
    expect_kept(chat, "First?", "One.", "Other?", "Three.")


def test_editing_the_first_message_gives_the_chat_its_title(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("First?")
    edit(chat, "Other?")
    expect(chat.answers.last).to_contain_text("Two.")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Other?"])
    expect_kept(chat, "Other?", "Two.")


def test_editing_can_be_left(open_chat: OpenChat):
    chat = two_turns(open_chat)
    button = chat.questions.last.get_by_role("button", name="Edit message")
    button.click()
    box = chat.page.get_by_role("textbox", name="Edit message")
    expect(box).to_be_focused()
    expect(box).to_have_value("Second?")
    box.fill("Never mind")
    box.press("Escape")
    expect(button).to_be_focused()
    button.click()
    chat.page.get_by_role("button", name="Cancel").click()
    expect(button).to_be_focused()
    assert len(chat.requests()) == 2
    expect_kept(chat, "First?", "One.", "Second?", "Two.")


def test_edited_message_may_have_lines_and_is_never_empty(open_chat: OpenChat):
    chat = two_turns(open_chat, "Three.")
    chat.questions.last.get_by_role("button", name="Edit message").click()
    box = chat.page.get_by_role("textbox", name="Edit message")
    box.fill("   ")
    box.press("Enter")
    expect(box).to_be_visible()
    box.fill("Two")
    box.press("Shift+Enter")
    box.press_sequentially("lines")
    chat.page.get_by_role("button", name="Send again").click()
    expect(chat.answers.last).to_contain_text("Three.")
    assert contents(chat)[-1] == "Two\nlines"


def test_failed_answer_is_no_turn(open_chat: OpenChat):
    chat = open_chat({"answers": [PROBLEM, "Two."]})
    chat.send("First?")
    expect(chat.answers.last).to_contain_text("It broke.")
    # Asked on, both questions are one turn: templates want them to alternate.
    chat.ask("Second?")
    request = chat.requests()[-1]["messages"]
    assert request == [{"role": "user", "content": "First?\n\nSecond?"}]
    expect(chat.answers.first.get_by_role("button", name="Try again")).to_have_count(0)


def test_failure_in_the_middle_keeps_what_was_written(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("First?")
    chat.engine("push", "Half an")
    chat.engine("break", PROBLEM)
    expect(chat.answers.last).to_contain_text("It broke.")
    chat.expect_engine("ready")
    chat.reload()
    expect(chat.texts.last).to_have_text("Half an")
    expect(chat.answers.last).to_contain_text("It broke.")
    chat.page.get_by_role("button", name="Other models").click()
    expect(chat.page.get_by_role("dialog", name="Models")).to_be_visible()


def test_question_that_is_too_long_is_taken_to_a_new_chat(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", TOO_LONG, "Two."]})
    chat.ask("First?")
    chat.send("Second?")
    expect(chat.answers.last).to_contain_text("too long")
    chat.page.get_by_role("button", name="New chat from here").click()
    expect(chat.questions).to_have_count(0)
    expect(chat.box).to_have_value("Second?")
    expect(chat.box).to_be_focused()
    chat.send_button.click()
    expect(chat.answers.last).to_contain_text("Two.")
    assert contents(chat) == ["Second?"]
    expect(chat.conversations.get_by_role("link")).to_have_text(["Second?", "First?"])


@pytest.mark.parametrize(
    ("text", "end", "note"),
    [
        ("Cut", "length", "The answer reached its longest allowed length."),
        ("", "stop", "The model answered with nothing."),
    ],
)
def test_how_an_answer_ended(open_chat: OpenChat, text: str, end: str, note: str):
    chat = open_chat({"manualAnswer": True})
    chat.send("First?")
    chat.engine("push", text)
    chat.engine("finish", end)
    expect(chat.answers.last).to_contain_text(note)


def test_what_cannot_be_done_while_another_chat_is_answered_is_said(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("First?")
    chat.engine("push", "One.")
    chat.engine("finish")
    chat.expect_engine("ready")
    new_chat(chat)
    chat.send("Second?")
    chat.engine("push", "Two")
    chat.conversations.get_by_role("link", name="First?").click()
    chat.page.get_by_role("button", name="Regenerate").click()
    notifications = chat.page.get_by_role("region", name="Notifications")
    expect(notifications).to_contain_text("“Second?” is being answered")
