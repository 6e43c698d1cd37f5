"""What people do with the widget, and what sites see of that."""

from playwright.sync_api import expect

from tests.widget.conftest import OpenWidget


def test_a_person_opens_it_agrees_to_the_download_and_asks(open_widget: OpenWidget):
    widget = open_widget({"answers": ["**Hello**!"]})
    widget.open()
    expect(widget.element.get_by_role("dialog", name="Chat")).to_be_visible()
    widget.expect_state("consent")
    expect(widget.element.get_by_text("It downloads 2.4 MB once")).to_be_visible()
    widget.button("Download 2.4 MB").click()
    widget.expect_state("ready")
    widget.ask("Hi")
    expect(widget.answers.locator("strong")).to_have_text("Hello")
    states = [detail["state"] for detail in widget.events("state")]
    assert states == ["checking", "consent", "loading", "ready", "answering", "ready"]
    assert widget.events("message") == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "**Hello**!"},
    ]
    assert widget.run("chat.messages") == widget.events("message")
    expect(widget.announcer).to_have_text("Assistant: **Hello**!")
