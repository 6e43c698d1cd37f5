"""One conversation in two tabs: nothing that either did is lost, and what is deleted stays so."""

import json
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser import PATIENCE_MS
from tests.page.conftest import POCKET, Chat, OpenChat
from tests.page.test_conversations import choose
from tests.page.test_history import kept_texts, new_chat


def second_tab(chat: Chat, script: dict[str, Any]) -> Chat:
    """The same address in another tab of the same browser, which finds all that the first one has."""
    chat.expect_kept()
    page: Page = chat.page.context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(f"window.script = {json.dumps(script)};")
    page.route("**/bundles/index.json", lambda route: route.fulfill(json={"bundles": [POCKET]}))
    page.goto(chat.address)
    other = Chat(page)
    other.expect_engine("ready")
    return other


def while_one_writes(open_chat: OpenChat, init: str = "") -> tuple[Chat, Chat]:
    one = open_chat({"manualAnswer": True}, init=init)
    one.send("Story?")
    one.engine("push", "Once")
    expect(one.texts.last).to_have_text("Once")
    two = second_tab(one, {})
    return one, two


def rename(chat: Chat, before: str, after: str) -> None:
    choose(chat, before, "Rename")
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill(after)
    dialog.get_by_role("button", name="Rename").click()


def test_what_one_tab_asks_the_other_shows(open_chat: OpenChat):
    one = open_chat({"answers": ["One.", "Three."]})
    one.ask("First?")
    two = second_tab(one, {"answers": ["Two."]})
    two.ask("Second?")
    expect(one.texts).to_have_text(["First?", "One.", "Second?", "Two."])
    one.ask("Third?")
    turns = ["First?", "One.", "Second?", "Two.", "Third?", "Three."]
    expect(two.texts).to_have_text(turns)
    assert kept_texts(one) == turns


def test_questions_at_the_same_time_become_versions(open_chat: OpenChat):
    one = open_chat({"manualAnswer": True})
    two = second_tab(one, {"manualAnswer": True})
    one.send("Mine?")
    one.expect_kept()
    two.page.goto(one.address)
    two.expect_engine("ready")
    one.engine("push", "Mine.")
    one.engine("finish")
    expect(two.texts).to_have_text(["Mine?", "Mine."])
    for chat in (one, two):
        chat.box.fill(f"From {'one' if chat is one else 'two'}?")
    # Neither hears of the other before it has asked.
    one.page.evaluate("BroadcastChannel.prototype.postMessage = () => undefined")
    one.send_button.click()
    one.engine("push", "To one.")
    one.engine("finish")
    one.expect_engine("ready")
    one.expect_kept()
    two.send_button.click()
    two.engine("push", "To two.")
    two.engine("finish")
    two.expect_engine("ready")
    two.expect_kept()
    for chat in (one, two):
        chat.reload()
        expect(chat.texts).to_have_text(["Mine?", "Mine.", "From two?", "To two."])
        chat.questions.last.get_by_role("button", name="Earlier version").click()
        expect(chat.texts).to_have_text(["Mine?", "Mine.", "From one?", "To one."])
        chat.questions.last.get_by_role("button", name="Later version").click()


def test_an_answer_grows_in_the_other_tab(open_chat: OpenChat):
    one, two = while_one_writes(open_chat)
    expect(two.questions.locator(".body")).to_have_text(["Story?"])
    expect(two.answers.last).to_have_attribute("aria-busy", "true")
    expect(two.answers.last).not_to_contain_text("Interrupted")
    one.engine("push", " upon a time.")
    one.engine("finish")
    expect(two.texts.last).to_have_text("Once upon a time.")
    expect(two.answers.last.get_by_role("button", name="Copy answer")).to_be_visible()


def test_an_answer_goes_on_while_the_other_tab_changes_its_chat(open_chat: OpenChat):
    one, two = while_one_writes(open_chat)
    rename(two, "Story?", "Tale")
    expect(one.conversations.get_by_role("link")).to_have_text(["Tale"])
    one.engine("push", " upon a time.")
    one.engine("finish")
    one.expect_engine("ready")
    expect(one.texts.last).to_have_text("Once upon a time.")
    expect(two.texts.last).to_have_text("Once upon a time.")


def test_a_name_given_in_one_tab_stays(open_chat: OpenChat):
    one = open_chat({"answers": ["One."]})
    one.ask("First?")
    two = second_tab(one, {"answers": ["Two."]})
    rename(one, "First?", "Numbers")
    expect(two.conversations.get_by_role("link")).to_have_text(["Numbers"])
    two.ask("Second?")
    for chat in (one, two):
        expect(chat.conversations.get_by_role("link")).to_have_text(["Numbers"])
        expect(chat.page.get_by_role("heading", level=1)).to_have_text("Numbers")


def test_a_tab_that_missed_a_new_name_does_not_take_it_back(open_chat: OpenChat):
    one = open_chat({"answers": ["One."]})
    one.ask("First?")
    two = second_tab(one, {"answers": ["Two."]})
    one.page.evaluate("BroadcastChannel.prototype.postMessage = () => undefined")
    rename(one, "First?", "Numbers")
    expect(one.conversations.get_by_role("link")).to_have_text(["Numbers"])
    two.ask("Second?")
    expect(two.conversations.get_by_role("link")).to_have_text(["Numbers"])


def test_what_is_deleted_in_one_tab_goes_from_the_other(open_chat: OpenChat):
    one = open_chat({"answers": ["One."]})
    one.ask("First?")
    two = second_tab(one, {"answers": ["Two."]})
    choose(one, "First?", "Delete")
    expect(two.questions).to_have_count(0)
    notifications = two.page.get_by_role("region", name="Notifications")
    expect(notifications).to_contain_text("“First?” was deleted in another tab.")
    two.ask("Second?")
    expect(one.conversations.get_by_role("link")).to_have_text(["Second?"])
    assert kept_texts(two) == ["Second?", "Two."]


def test_a_tab_that_missed_a_deletion_does_not_bring_it_back(open_chat: OpenChat):
    one = open_chat({"answers": ["One."]})
    one.ask("First?")
    two = second_tab(one, {"manualAnswer": True})
    one.page.evaluate("BroadcastChannel.prototype.postMessage = () => undefined")
    choose(one, "First?", "Delete")
    expect(one.conversations.get_by_role("link")).to_have_count(0)
    two.send("Second?")
    notifications = two.page.get_by_role("region", name="Notifications")
    expect(notifications).to_contain_text("was deleted in another tab.")
    # What was typed isn't lost with it.
    expect(two.box).to_have_value("Second?")
    assert kept_texts(two) == []


def test_an_undone_deletion_comes_back_everywhere(open_chat: OpenChat):
    one = open_chat({"answers": ["One."]})
    one.ask("First?")
    two = second_tab(one, {})
    choose(one, "First?", "Delete")
    expect(two.conversations.get_by_role("link")).to_have_count(0)
    one.page.get_by_role("button", name="Undo").click()
    expect(one.texts).to_have_text(["First?", "One."])
    expect(two.conversations.get_by_role("link")).to_have_text(["First?"])


def test_a_menu_stays_open_while_the_other_tab_writes(open_chat: OpenChat):
    one = open_chat({"answers": ["One."]})
    one.ask("First?")
    two = second_tab(one, {"answers": ["Two.", "Three."]})
    one.open_menu("First?")
    entry = one.page.get_by_role("button", name="Rename", exact=True)
    entry.focus()
    two.ask("Second?")
    new_chat(two)
    two.ask("Other?")
    expect(two.conversations.get_by_role("link")).to_have_text(["Other?", "First?"])
    expect(entry).to_be_focused()
    entry.click()
    expect(one.conversations.get_by_role("link")).to_have_text(["Other?", "First?"])
    expect(one.page.get_by_role("dialog").get_by_role("textbox")).to_have_value("First?")


def test_what_is_opened_in_a_message_stays_open_while_the_other_tab_writes(open_chat: OpenChat):
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "extra": {"decode_tokens_per_s": 4.5}}
    one = open_chat({"answers": ["One."], "usage": usage})
    one.ask("First?")
    two = second_tab(one, {"answers": ["Two."]})
    one.page.locator(".stats summary").click()
    copy = one.answers.first.get_by_role("button", name="Copy answer")
    copy.focus()
    new_chat(two)
    two.ask("Other?")
    expect(one.conversations.get_by_role("link")).to_have_text(["Other?", "First?"])
    expect(one.page.locator(".stats")).to_have_attribute("open", "")
    expect(copy).to_be_focused()


def test_messages_that_follow_one_that_is_gone_are_not_lost(open_chat: OpenChat):
    """One tab redoes an answer without a word, to which the other has asked on."""
    one = open_chat({"manualAnswer": True})
    one.send("First?")
    one.expect_engine("generating")
    one.page.keyboard.press("Escape")
    one.expect_engine("ready")
    two = second_tab(one, {"answers": ["Two."]})
    two.page.evaluate("BroadcastChannel.prototype.postMessage = () => undefined")
    two.ask("Second?")
    two.expect_kept()
    one.page.get_by_role("button", name="Regenerate").click()
    one.engine("push", "One.")
    one.engine("finish")
    one.expect_engine("ready")
    one.reload()
    expect(one.texts).to_have_text(["First?", "One."])
    one.answers.last.get_by_role("button", name="Earlier version").click()
    expect(one.texts).to_have_text(["First?", "", "Second?", "Two."])


SAYS_INTERRUPTED = """() => {
  globalThis.interrupted = 0;
  new MutationObserver((records) => {
    for (const { addedNodes } of records)
      for (const node of addedNodes) if (node.textContent.includes("Interrupted")) interrupted += 1;
  }).observe(document.querySelector("#log"), { childList: true, subtree: true });
}"""


def test_an_answer_that_grows_elsewhere_never_seems_interrupted(open_chat: OpenChat):
    _, two = while_one_writes(open_chat)
    expect(two.answers.last).to_have_attribute("aria-busy", "true")
    two.page.evaluate(SAYS_INTERRUPTED)
    for name, title in (("Story?", "Tale"), ("Tale", "Song")):
        rename(two, name, title)
        # The whole chat is shown anew, as when the answer grows.
        expect(two.page.get_by_role("heading", name=title)).to_be_visible()
    assert two.page.evaluate("interrupted") == 0


def test_what_was_typed_in_a_chat_that_is_deleted_elsewhere_is_kept_for_a_new_one(
    open_chat: OpenChat,
):
    one = open_chat({"answers": ["One."], "manualAnswer": False})
    one.ask("First?")
    two = second_tab(one, {"manualAnswer": True})
    new_chat(two)
    two.box.fill("new")
    two.conversations.get_by_role("link", name="First?").click()
    expect(two.texts).to_have_text(["First?", "One."])
    two.send("Second?")
    two.box.fill("typed")
    choose(one, "First?", "Delete")
    expect(two.box).to_have_value("new\nSecond?\ntyped")
    assert "typed" not in two.page.evaluate("JSON.stringify({ ...localStorage })")


def test_a_question_waits_for_the_answer_that_another_tab_writes(open_chat: OpenChat):
    one, two = while_one_writes(open_chat)
    expect(two.answers.last).to_have_attribute("aria-busy", "true")
    two.box.fill("More?")
    two.box.press("Enter")
    notifications = two.page.get_by_role("region", name="Notifications")
    expect(notifications).to_contain_text("in another tab")
    expect(two.box).to_have_value("More?")
    one.engine("finish")
    expect(two.answers.last.get_by_role("button", name="Copy answer")).to_be_visible()
    two.box.press("Enter")
    expect(two.questions.locator(".body")).to_have_text(["Story?", "More?"])


NEVER_LETS_GO = """
const { request } = LockManager.prototype;
LockManager.prototype.request = function (name, granted) {
  return request.call(this, name, (lock) => (granted(lock), new Promise(() => undefined)));
};
"""


def test_an_answer_that_has_ended_in_another_tab_holds_nobody_up(open_chat: OpenChat):
    one, two = while_one_writes(open_chat, NEVER_LETS_GO)
    expect(two.answers.last).to_have_attribute("aria-busy", "true")
    one.engine("finish")
    expect(two.answers.last.get_by_role("button", name="Copy answer")).to_be_visible()
    two.ask("More?")
    expect(two.questions.locator(".body")).to_have_text(["Story?", "More?"])
