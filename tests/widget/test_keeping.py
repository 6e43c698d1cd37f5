"""A conversation outlives its page: also an answer in the middle, and beside other tabs."""

import json

from playwright.sync_api import Locator, expect

from tests.browser import wait_for_value
from tests.widget.conftest import OpenWidget, Widget

STORED = {"missingBytes": 0, "answers": ["One.", "Two.", "Three."]}
MANUAL = {"missingBytes": 0, "manualAnswer": True}
KEPT = 'storage="local" id="help"'
CONTENTS = "JSON.parse(localStorage['mlc-chat:help'] ?? '[]').map(({ content }) => content)"


def begin(widget: Widget, question: str) -> None:
    widget.box.fill(question)
    widget.box.press("Enter")
    widget.expect_state("answering")


def bodies(messages: Locator) -> Locator:
    return messages.locator(".body")


def answering(open_widget: OpenWidget, text: str) -> Widget:
    widget = open_widget(MANUAL, attributes=KEPT)
    widget.open()
    begin(widget, "Hi")
    if text:
        widget.engine("push", text)
        expect(widget.answers).to_contain_text(text)
    return widget


def open_again(widget: Widget) -> None:
    widget.page.reload()
    widget.open()
    widget.expect_state("ready")


def expect_kept(widget: Widget, *contents: str) -> None:
    """Wait until this is what is kept, as this tab sees it: the others see it at other times."""
    wait_for_value(widget.page, lambda: widget.page.evaluate(CONTENTS), list(contents))


def answered_in_part(open_widget: OpenWidget) -> Widget:
    """An answer that was redone, before the first word of the new one."""
    widget = answering(open_widget, "Former")
    widget.engine("finish")
    widget.button("Regenerate").click()
    widget.expect_state("answering")
    return widget


def test_a_page_that_is_left_keeps_the_answer_so_far(open_widget: OpenWidget):
    widget = answering(open_widget, "Some words")
    open_again(widget)
    expect(bodies(widget.answers)).to_have_text(["Some words"])
    expect(widget.answers).to_contain_text("Interrupted")
    widget.button("Regenerate").click()
    widget.engine("push", "All words")
    widget.engine("finish")
    expect(bodies(widget.answers)).to_have_text(["All words"])


def test_an_answer_is_kept_while_it_grows(open_widget: OpenWidget):
    widget = answering(open_widget, "Some words")
    expect_kept(widget, "Hi", "Some words")


def test_an_answer_that_had_no_word_yet_can_be_asked_for_again(open_widget: OpenWidget):
    widget = answering(open_widget, "")
    open_again(widget)
    expect(bodies(widget.questions)).to_have_text(["Hi"])
    expect(widget.answers).to_contain_text("Interrupted")
    widget.button("Regenerate").click()
    widget.expect_state("answering")


def test_an_answer_that_is_redone_stays_until_the_first_word_of_the_new_one(
    open_widget: OpenWidget,
):
    widget = answered_in_part(open_widget)
    widget.button("Stop").click()
    widget.expect_state("ready")
    expect(bodies(widget.answers)).to_have_text(["Former"])
    assert widget.run("chat.messages.length") == 2
    widget.button("Regenerate").click()
    widget.expect_state("answering")
    open_again(widget)
    expect(bodies(widget.answers)).to_have_text(["Former"])


def test_an_answer_that_could_not_be_redone_stays_beside_the_reason(open_widget: OpenWidget):
    widget = answered_in_part(open_widget)
    widget.engine("break", {"code": "network_error", "message": "Gone.", "remedy": "Try again."})
    expect(widget.answers).to_contain_text("Former")
    expect(widget.answers).to_contain_text("The connection failed.")
    widget.button("Try again").click()
    widget.engine("push", "Later")
    widget.engine("finish")
    expect(bodies(widget.answers)).to_have_text(["Later"])
    expect(widget.answers).not_to_contain_text("The connection failed.")


def test_a_widget_that_changes_before_the_first_word_has_the_former_answer(
    open_widget: OpenWidget,
):
    widget = answered_in_part(open_widget)
    widget.run("(chat.strings = { placeholder: 'Other' }, null)")
    expect(widget.element.get_by_placeholder("Other")).to_be_visible()
    expect(bodies(widget.answers)).to_have_text(["Former"])


def two_tabs(open_widget: OpenWidget) -> tuple[Widget, Widget]:
    first = open_widget(STORED, attributes=KEPT)
    second = open_widget(MANUAL, attributes=KEPT, beside=first)
    for widget in (first, second):
        widget.open()
        widget.expect_state("ready")
    return first, second


def test_tabs_see_and_keep_each_others_messages(open_widget: OpenWidget):
    first, second = two_tabs(open_widget)
    begin(second, "Second")
    second.engine("push", "Sec")
    expect_kept(first, "Second", "Sec")
    expect(bodies(first.answers)).to_have_text(["Sec"])
    first.ask("First")
    expect_kept(second, "Second", "Sec", "First", "One.")
    second.engine("push", "ond.")
    second.engine("finish")
    for widget in (first, second):
        expect(bodies(widget.questions)).to_have_text(["Second", "First"])
        expect(bodies(widget.answers)).to_have_text(["Second.", "One."])
        expect_kept(widget, "Second", "Second.", "First", "One.")
    turns = [turn["content"] for turn in first.run("chat.messages")]
    assert turns == ["Second", "Second.", "First", "One."]


COUNT_WRITES = """() => {
  globalThis.writes = 0;
  const { setItem } = Storage.prototype;
  Storage.prototype.setItem = function (...values) {
    writes += 1;
    return setItem.apply(this, values);
  };
}"""


def test_a_tab_leaves_what_another_has_written(open_widget: OpenWidget):
    """Written again it would take back what the other one writes meanwhile."""
    first, second = two_tabs(open_widget)
    second.page.evaluate(COUNT_WRITES)
    first.ask("First")
    expect(bodies(second.answers)).to_have_text(["One."])
    first.ask("Second")
    expect(bodies(second.answers)).to_have_text(["One.", "Two."])
    assert second.page.evaluate("writes") == 0


def test_what_one_tab_removes_is_gone_in_the_other(open_widget: OpenWidget):
    first, second = two_tabs(open_widget)
    first.ask("First")
    expect(bodies(second.answers)).to_have_text(["One."])
    first.button("Regenerate").click()
    expect(bodies(second.answers)).to_have_text(["Two."])
    second.button("New conversation").click()
    expect(first.questions).to_have_count(0)
    first.ask("Anew")
    expect(bodies(second.questions)).to_have_text(["Anew"])
    for widget in (first, second):
        expect_kept(widget, "Anew", "Three.")


def test_an_answer_that_is_written_survives_what_other_tabs_remove(open_widget: OpenWidget):
    first, second = two_tabs(open_widget)
    first.ask("First")
    expect(bodies(second.answers)).to_have_text(["One."])
    begin(second, "Second")
    second.engine("push", "Sec")
    expect_kept(first, "First", "One.", "Second", "Sec")
    first.button("New conversation").click()
    expect_kept(second, "Second", "Sec")
    second.engine("finish")
    for widget in (first, second):
        expect(bodies(widget.questions)).to_have_text(["Second"])
        expect(bodies(widget.answers)).to_have_text(["Sec"])


def test_messages_of_the_site_take_the_place_of_what_was_kept(open_widget: OpenWidget):
    former = json.dumps([{"role": "user", "content": "Former"}])
    init = f"localStorage['mlc-chat:help'] = {json.dumps(former)};"
    widget = open_widget(STORED, attributes=KEPT, init=init)
    widget.run("(chat.messages = [{ role: 'user', content: 'Of the site' }], null)")
    widget.open()
    expect(bodies(widget.questions)).to_have_text(["Of the site"])
    expect_kept(widget, "Of the site")
