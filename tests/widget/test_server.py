"""Where what people type goes: to a server only if they were told before they typed, or agreed."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.widget.conftest import OpenWidget, Widget
from tests.widget.server import Server, events

STORED = {"missingBytes": 0}
FAIL_TO_LOAD = "problem => { widgetScript.loadProblems = [problem]; }"
NO_MEMORY = {"code": "out_of_memory", "message": "Too little memory.", "remedy": "Use less."}
NO_GPU = {"code": "webgpu_unavailable", "message": "No WebGPU.", "remedy": "Use another."}


def with_server(
    open_widget: OpenWidget, server: Server, script: dict[str, Any], attributes: str = ""
) -> Widget:
    routes = {"**/api/v1/**": server}
    return open_widget(script, attributes=f'server="api/v1#small" {attributes}', routes=routes)


def test_a_waiting_question_goes_to_the_server_only_when_a_person_agrees(open_widget: OpenWidget):
    server = Server(events({"content": "From afar."}))
    widget = with_server(open_widget, server, {"loadProblems": [NO_MEMORY]})
    widget.open()
    widget.expect_state("consent")
    assert "answers come from 127.0.0.1" in widget.card.inner_text()
    expect(widget.element.locator("#exception")).to_contain_text("you are asked")
    widget.box.fill("Between us")
    widget.box.press("Enter")
    widget.button("Download 2.4 MB").click()
    widget.expect_state("elsewhere")
    expect(widget.card).to_contain_text("goes there only if you agree")
    expect(widget.announcer).to_contain_text("127.0.0.1")
    expect(widget.answers).to_contain_text("goes there only if you agree")
    assert widget.axe() == []
    assert server.asked == []
    widget.element.get_by_role("button", name="Continue with 127.0.0.1").click()
    expect(widget.answers).to_contain_text("From afar.")
    assert [asked["messages"] for asked in server.asked] == [
        [{"role": "user", "content": "Between us"}]
    ]
    widget.expect_state("ready")


def test_what_was_kept_is_not_sent_unasked(open_widget: OpenWidget):
    server = Server(events({"content": "From afar."}))
    script = {"misfits": {"pocket": NO_GPU}}
    widget = with_server(open_widget, server, script, 'storage="local" id="help"')
    widget.page.evaluate(
        """localStorage.setItem("mlc-chat:help", '[{"role":"user","content":"Secret"}]')"""
    )
    widget.open()
    widget.expect_state("elsewhere")
    widget.button("New conversation").click()
    widget.element.get_by_role("button", name="Continue with").click()
    widget.ask("Hi")
    assert [asked["messages"] for asked in server.asked] == [[{"role": "user", "content": "Hi"}]]


def test_what_is_being_written_is_not_sent_unasked(open_widget: OpenWidget):
    script = {"missingBytes": 0, "manualLoad": True, "loadProblems": [NO_MEMORY]}
    widget = with_server(open_widget, Server(), script)
    widget.open()
    widget.expect_state("loading")
    widget.box.fill("A sec")
    widget.engine("finishLoad")
    widget.expect_state("elsewhere")


def test_a_model_that_is_lost_does_not_hand_the_conversation_on(open_widget: OpenWidget):
    lost = {"code": "device_lost", "message": "Gone.", "remedy": "Try again."}
    server = Server()
    widget = with_server(open_widget, server, {"missingBytes": 0, "answers": ["One.", lost]})
    widget.open()
    widget.ask("First")
    widget.page.evaluate(FAIL_TO_LOAD, NO_MEMORY)
    widget.box.fill("Second")
    widget.box.press("Enter")
    widget.expect_state("elsewhere")
    widget.page.evaluate(FAIL_TO_LOAD, NO_MEMORY)
    widget.run("(chat.load().catch(({ code }) => { document.title = code; }), null)")
    expect(widget.page).to_have_title("out_of_memory")
    # This device may be able to again.
    widget.card.get_by_role("button", name="Try again").click()
    widget.expect_state("ready")
    assert widget.run("[...new Set(chat.messages.map(({ content }) => content))]") == [
        "First",
        "One.",
        "Second",
    ]
    assert server.asked == []


def test_nothing_is_promised_of_a_server_without_one(open_widget: OpenWidget):
    widget = open_widget()
    widget.open()
    widget.expect_state("consent")
    expect(widget.element.locator("#exception")).to_be_hidden()
    expect(widget.card.locator("p")).to_have_count(1)


@pytest.mark.parametrize("address", ["https://", "api/v1#100%", "ftp://example.com/v1"])
def test_a_wrong_address_is_told_of(open_widget: OpenWidget, address: str):
    for change in ("null", "chat.removeAttribute('src')"):
        widget = open_widget(STORED)
        widget.run(f"({change}, chat.setAttribute('server', '{address}'))")
        widget.open()
        widget.expect_state("error")
        (problem,) = widget.events("error")
        assert problem["code"] == "invalid_request"
        assert address in problem["message"]


GIVEN = """(window.given = {
  listeners: new Set(),
  backend: { origin: ORIGIN },
  onEvent(listener) { this.listeners.add(listener); return () => this.listeners.delete(listener); },
  chat: { completions: { create: async function* () {
    yield { choices: [{ delta: { content: "Hi" }, finish_reason: "stop" }] };
  } } },
}, chat.engine = given, null)"""
CHOSEN = """origin => {
  for (const listener of given.listeners) {
    listener({ kind: "backend", state: "chosen", chosen: { origin } });
  }
}"""


def test_an_engine_of_the_site_that_asks_a_server_is_told_of(open_widget: OpenWidget):
    widget = open_widget()
    widget.run(GIVEN.replace("ORIGIN", '"https://far.example:8443"'))
    widget.open()
    hint = widget.element.locator("#hint")
    expect(hint).to_contain_text("Answers come from far.example:8443")
    widget.page.evaluate(CHOSEN, None)
    expect(hint).to_contain_text("Small models")
    widget.page.evaluate(CHOSEN, "https://other.example")
    expect(hint).to_contain_text("Answers come from other.example")
    expect(widget.announcer).to_contain_text("other.example")
    hosts = [detail["host"] for detail in widget.events("ready")]
    assert hosts == ["far.example:8443", None, "other.example"]


def test_a_server_that_is_left_of_the_site_s_models_is_told_of(open_widget: OpenWidget):
    widget = open_widget()
    widget.run(GIVEN.replace("ORIGIN", "null"))
    widget.open()
    hint = widget.element.locator("#hint")
    expect(hint).to_contain_text("Small models")
    widget.page.evaluate("given.backend = { origin: 'https://far.example' }")
    widget.ask("Hi")
    expect(hint).to_contain_text("Answers come from far.example")
    widget.run("chat.engine = null")
    assert widget.page.evaluate("given.listeners.size") == 0
