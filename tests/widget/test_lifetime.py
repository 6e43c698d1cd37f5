"""Widgets that change, go or are cancelled while something goes on."""

from playwright.sync_api import expect

from tests.browser import Held
from tests.widget.conftest import OpenWidget
from tests.widget.server import Server, events

PANEL = "**/widget-panel*"


def test_what_is_set_while_the_script_loads_counts(open_widget: OpenWidget):
    held = Held()
    widget = open_widget({"missingBytes": 0}, routes={PANEL: held})
    widget.open()
    widget.run("(window.loaded = chat.load(), null)")
    widget.run("(chat.strings = { placeholder: 'Your question' }, null)")
    held.let_go(widget.page)
    widget.expect_state("ready")
    widget.page.evaluate("loaded")
    expect(widget.box).to_have_attribute("placeholder", "Your question")
    widget.ask("Hi")
    widget.run("chat.open = false")
    widget.run("chat.open = true")
    expect(widget.questions.locator(".body")).to_have_text(["Hi"])
    widget.run("chat.remove()")
    disposed = "widgetEngines.map(({ disposed }) => disposed)"
    assert widget.page.evaluate(disposed) == [True]


def test_what_is_removed_while_the_script_loads_is_not_made(open_widget: OpenWidget):
    held = Held()
    widget = open_widget(count=2, attributes='load="auto"', routes={PANEL: held})
    first = "document.querySelector('mlc-chat')"
    widget.page.evaluate(f"window.gone = {first}, gone.open = true, null")
    widget.page.evaluate("window.loaded = gone.load().catch(({ message }) => message), null")
    widget.page.evaluate("gone.remove()")
    held.let_go(widget.page)
    assert "isn't in a document" in widget.page.evaluate("loaded")
    assert widget.page.evaluate("window.widgetEngines ?? null") is None
    widget.page.evaluate("document.body.append(gone)")
    expect(widget.page.locator("mlc-chat").last.locator(".frame")).to_have_attribute(
        "data-state", "ready"
    )


def test_a_download_that_is_cancelled_asks_before_it_begins_again(open_widget: OpenWidget):
    widget = open_widget({"manualLoad": True}, attributes='load="auto"', count=2)
    first, second = (widget.page.locator("mlc-chat").nth(index) for index in (0, 1))
    for chat in (first, second):
        chat.evaluate("chat => { chat.open = true; }")
    widget.expect_state("loading")
    first.get_by_role("button", name="Cancel").dispatch_event("click")
    for chat in (first, second):
        expect(chat.locator(".frame")).to_have_attribute("data-state", "consent")
        expect(chat.get_by_role("button", name="Download 2.4 MB")).to_be_attached()
    second.evaluate("chat => { chat.lang = 'de'; }")
    expect(second.locator(".frame")).to_have_attribute("data-state", "consent")
    first.get_by_role("button", name="Download 2.4 MB").dispatch_event("click")
    widget.expect_state("loading")
    assert widget.page.evaluate("widgetEngines.map(({ loads }) => loads.length)") == [2]


def test_tools_that_answer_a_widget_that_is_gone_ask_nobody(open_widget: OpenWidget):
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    server = Server(events({"tool_calls": [call]}, finish="tool_calls"), events({"content": "No."}))
    init = """addEventListener("DOMContentLoaded", () => {
      const chat = document.querySelector("mlc-chat");
      chat.removeAttribute("src");
      chat.addEventListener("toolcall", ({ detail }) => { window.respond = detail.respond; });
    });"""
    widget = open_widget(attributes='server="api/v1#m"', routes={"**/api/v1/**": server}, init=init)
    widget.run("(chat.send('Hi'), null)")
    expect(widget.answers).to_contain_text("Looked something up.")
    widget.run("(window.chat = chat, chat.remove())")
    widget.page.evaluate("respond('c', 'Rome')")
    widget.page.evaluate("document.body.append(window.chat)")
    widget.ask("Again")
    assert [asked["messages"][-1]["content"] for asked in server.asked] == ["Hi", "Again"]


def test_who_waits_for_a_widget_that_goes_is_told(open_widget: OpenWidget):
    widget = open_widget({"manualLoad": True})
    widget.open()
    widget.expect_state("consent")
    widget.run("(chat.load().catch(({ name }) => { document.title = name; }), null)")
    widget.expect_state("loading")
    widget.run("chat.remove()")
    expect(widget.page).to_have_title("AbortError")


def test_what_is_typed_stays_with_its_focus_when_the_widget_changes(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0})
    widget.open()
    widget.expect_state("ready")
    widget.box.fill("Unsent")
    widget.run("(chat.lang = 'de', chat.strings = { placeholder: 'Anders' }, null)")
    box = widget.element.get_by_placeholder("Anders")
    expect(box).to_have_value("Unsent")
    expect(box).to_be_focused()
    box.press("Enter")
    expect(widget.element.get_by_role("article").first).to_contain_text("Unsent")
    expect(box).to_have_value("")


def test_the_focus_stays_outside_a_widget_that_changes(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0})
    widget.open()
    widget.expect_state("ready")
    widget.box.fill("Unsent")
    link = widget.page.get_by_role("link", name="something")
    link.focus()
    widget.run("(chat.strings = { placeholder: 'Other' }, null)")
    expect(widget.element.get_by_placeholder("Other")).to_have_value("Unsent")
    expect(link).to_be_focused()


def test_the_button_of_a_closed_widget_that_changes_keeps_the_focus(open_widget: OpenWidget):
    widget = open_widget()
    widget.open_button.focus()
    widget.run("(chat.lang = 'de', null)")
    expect(widget.button("Chat öffnen")).to_be_focused()
