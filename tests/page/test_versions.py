"""What was asked or answered before stays beside what took its place."""

from playwright.sync_api import Locator, expect

from tests.page.conftest import OpenChat
from tests.page.test_redo import edit


def version(message: Locator) -> Locator:
    return message.get_by_role("group", name="Version")


def step(message: Locator, name: str) -> None:
    message.get_by_role("button", name=name).click()


def test_versions_of_an_answer_are_looked_through(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two.", "Three."]})
    chat.ask("Number?")
    assert version(chat.answers.last).count() == 0
    for answer in ("Two.", "Three."):
        chat.page.get_by_role("button", name="Regenerate").click()
        expect(chat.texts).to_have_text(["Number?", answer])
        chat.expect_engine("ready")
    expect(version(chat.answers.last)).to_have_text("3/3")
    expect(chat.answers.last.get_by_role("button", name="Later version")).to_be_disabled()
    step(chat.answers.last, "Earlier version")
    expect(chat.texts).to_have_text(["Number?", "Two."])
    expect(version(chat.answers.last)).to_have_accessible_name("Version 2 of 3")
    step(chat.answers.last, "Earlier version")
    expect(chat.texts).to_have_text(["Number?", "One."])
    expect(chat.answers.last.get_by_role("button", name="Earlier version")).to_be_disabled()
    # What is shown is what is asked on, and what is shown again.
    chat.reload()
    expect(chat.texts).to_have_text(["Number?", "One."])
    chat.ask("And?")
    sent = [message["content"] for message in chat.requests()[-1]["messages"]]
    assert sent == ["Number?", "One.", "And?"]


def test_each_version_has_what_followed_it(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two.", "Three."]})
    chat.ask("First?")
    chat.ask("Second?")
    edit(chat, "Other?", chat.questions.first)
    expect(chat.texts).to_have_text(["Other?", "Three."])
    chat.expect_engine("ready")
    step(chat.questions.first, "Earlier version")
    expect(chat.texts).to_have_text(["First?", "One.", "Second?", "Two."])
    step(chat.questions.first, "Later version")
    expect(chat.texts).to_have_text(["Other?", "Three."])


def test_an_answer_stays_until_there_is_another(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", {"code": "internal", "message": "No.", "remedy": "-"}]})
    chat.ask("Number?")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.answers.last).to_contain_text("No.")
    chat.reload()
    step(chat.answers.last, "Earlier version")
    expect(chat.texts).to_have_text(["Number?", "One."])


def test_a_failed_answer_is_no_version(open_chat: OpenChat):
    problem = {"code": "internal", "message": "No.", "remedy": "-"}
    chat = open_chat({"answers": [problem, "One."]})
    chat.send("Number?")
    chat.page.get_by_role("button", name="Try again").click()
    expect(chat.texts).to_have_text(["Number?", "One."])
    chat.expect_engine("ready")
    expect(version(chat.answers.last)).to_have_count(0)
    chat.reload()
    expect(version(chat.answers.last)).to_have_count(0)


def test_versions_wait_for_the_answer_that_is_written(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."], "manualAnswer": True})
    chat.send("Number?")
    chat.engine("push", "One.")
    chat.engine("finish")
    chat.page.get_by_role("button", name="Regenerate").click()
    chat.engine("push", "Two")
    expect(chat.texts.last).to_have_text("Two")
    expect(chat.page.get_by_role("button", name="Earlier version")).to_have_count(0)
    chat.engine("finish")
    expect(version(chat.answers.last)).to_have_text("2/2")


def test_versions_are_looked_through_by_keyboard(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two.", "Three."]})
    chat.ask("Number?")
    for answer in ("Two.", "Three."):
        chat.page.get_by_role("button", name="Regenerate").click()
        expect(chat.texts).to_have_text(["Number?", answer])
        chat.expect_engine("ready")
    earlier = chat.page.get_by_role("button", name="Earlier version")
    earlier.focus()
    chat.page.keyboard.press("Enter")
    expect(earlier).to_be_focused()
    chat.page.keyboard.press("Enter")
    expect(chat.texts).to_have_text(["Number?", "One."])
    expect(chat.page.get_by_role("button", name="Later version")).to_be_focused()


def test_leaving_an_edit_returns_to_its_button(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("First?")
    edit(chat, "Other?")
    expect(chat.texts).to_have_text(["Other?", "Two."])
    chat.expect_engine("ready")
    button = chat.page.get_by_role("button", name="Edit message")
    button.click()
    chat.page.keyboard.press("Escape")
    expect(button).to_be_focused()
