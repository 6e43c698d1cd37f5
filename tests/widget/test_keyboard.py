"""The focus is never lost, and keys of an input method are its own."""

import pytest
from playwright.sync_api import Locator, expect

from tests.widget.conftest import OpenWidget, Widget

COMPOSING = [{"isComposing": True}, {"keyCode": 229}]
BROKEN = {"code": "integrity_error", "message": "Damaged.", "remedy": "Try again."}
BIG = {"missingBytes": 1_200_000_000, "manualLoad": True}


def compose(box: Locator, key: str, how: dict[str, object]) -> bool:
    """Press a key of an input method; whether it may act."""
    script = """(box, init) => box.dispatchEvent(new KeyboardEvent(
      "keydown", { bubbles: true, composed: true, cancelable: true, ...init }))"""
    allowed: bool = box.evaluate(script, {"key": key, **how})
    return allowed


@pytest.mark.parametrize("how", COMPOSING, ids=["composing", "Safari"])
def test_keys_of_an_input_method_do_nothing_else(open_widget: OpenWidget, how: dict[str, object]):
    widget = open_widget({"missingBytes": 0, "manualAnswer": True})
    widget.open()
    widget.box.fill("にほん")
    assert compose(widget.box, "Enter", how)
    expect(widget.questions).to_have_count(0)
    widget.box.press("Enter")
    widget.expect_state("answering")
    assert compose(widget.box, "Escape", how)
    widget.engine("push", "Hai")
    widget.engine("finish")
    widget.expect_state("ready")
    expect(widget.answers).to_contain_text("Hai")
    assert compose(widget.box, "Escape", how)
    expect(widget.frame).to_be_visible()
    widget.button("Edit message").click()
    edit = widget.element.get_by_role("textbox", name="Edit message")
    assert compose(edit, "Escape", how)
    assert compose(edit, "Enter", how)
    expect(edit).to_be_focused()
    edit.press("Escape")
    expect(edit).to_have_count(0)


def download(open_widget: OpenWidget) -> Widget:
    widget = open_widget(BIG)
    widget.open()
    widget.button("Download 1.2 GB").click()
    widget.progress("download", 300_000_000, 1_200_000_000)
    return widget


def test_the_focus_stays_when_a_failure_is_tried_again(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0, "loadProblems": [BROKEN], "manualLoad": True})
    widget.open()
    widget.expect_state("loading")
    widget.engine("finishLoad")
    widget.button("Try again").press("Enter")
    expect(widget.box).to_be_focused()


def test_the_focus_stays_when_a_download_is_cancelled(open_widget: OpenWidget):
    widget = download(open_widget)
    widget.button("Cancel").press("Enter")
    widget.expect_state("consent")
    expect(widget.box).to_be_focused()


def test_the_focus_moves_on_when_there_is_nothing_to_pause(open_widget: OpenWidget):
    widget = download(open_widget)
    widget.button("Pause").focus()
    widget.progress("upload", 0, 1_200_000_000)
    expect(widget.button("Cancel")).to_be_focused()
    # It is opened again at what can be done.
    widget.run("chat.open = false")
    widget.run("chat.open = true")
    expect(widget.button("Cancel")).to_be_focused()
    widget.engine("finishLoad")
    widget.expect_state("ready")
    expect(widget.box).to_be_focused()
