"""A conversation outlives its page: also an answer in the middle, and beside other tabs."""

import json
from time import monotonic

from playwright.sync_api import Locator, expect

from tests.page.conftest import TIMEOUT_MS
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


def wait_until_kept(widget: Widget, last: str) -> None:
    deadline = monotonic() + TIMEOUT_MS / 1000
    while widget.page.evaluate(f"{CONTENTS}.at(-1)") != last:
        assert monotonic() < deadline, widget.page.evaluate(CONTENTS)
        widget.page.evaluate("new Promise(requestAnimationFrame)")


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
    wait_until_kept(widget, "Some words")


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
    wait_until_kept(first, "Sec")
    expect(bodies(first.answers)).to_have_text(["Sec"])
    first.ask("First")
    second.engine("push", "ond.")
    second.engine("finish")
    for widget in (first, second):
        expect(bodies(widget.questions)).to_have_text(["Second", "First"])
        expect(bodies(widget.answers)).to_have_text(["Second.", "One."])
    assert second.page.evaluate(CONTENTS) == ["Second", "Second.", "First", "One."]
    assert [turn["content"] for turn in first.run("chat.messages")] == second.page.evaluate(
        CONTENTS
    )


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
    assert first.page.evaluate(CONTENTS) == ["Anew", "Three."]


def test_an_answer_that_is_written_survives_what_other_tabs_remove(open_widget: OpenWidget):
    first, second = two_tabs(open_widget)
    first.ask("First")
    expect(second.questions).to_have_count(1)
    begin(second, "Second")
    second.engine("push", "Sec")
    first.button("New conversation").click()
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
    assert widget.page.evaluate(CONTENTS) == ["Of the site"]
