"""What sites set, call and hear."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.widget.conftest import OpenWidget, Widget
from tests.widget.server import Server, events

STORED = {"missingBytes": 0, "answers": ["One.", "Two."]}


def ready(open_widget: OpenWidget, **options: object) -> Widget:
    widget = open_widget(STORED, **options)
    widget.open()
    widget.expect_state("ready")
    return widget


def test_a_site_asks_for_consent_itself(open_widget: OpenWidget):
    init = """addEventListener("DOMContentLoaded", () =>
      document.querySelector("mlc-chat").addEventListener("consent", (event) => event.preventDefault()));"""
    widget = open_widget(init=init)
    widget.open()
    widget.expect_state("consent")
    expect(widget.card).to_be_hidden()
    assert widget.events("consent") == [{"downloadBytes": 2_400_000, "memoryBytes": 4_800_000}]
    widget.run("chat.load()")
    assert widget.run("chat.state") == "ready"


def test_load_prepares_a_widget_that_is_closed(open_widget: OpenWidget):
    widget = open_widget()
    assert widget.run("chat.state") == "closed"
    widget.run("chat.load()")
    expect(widget.frame).to_be_hidden()
    assert [detail["state"] for detail in widget.events("state")][-1] == "ready"


def test_load_says_what_went_wrong(open_widget: OpenWidget):
    problem = {"code": "integrity_error", "message": "Damaged.", "remedy": "Try again."}
    widget = open_widget({"loadProblems": [problem]})
    failure = "chat.load().then(() => null, ({ code, message }) => ({ code, message }))"
    assert widget.run(failure) == {"code": "integrity_error", "message": "Damaged."}
    assert widget.run("chat.load()") is None


def test_load_auto_asks_nobody(open_widget: OpenWidget):
    widget = open_widget(attributes='load="auto"')
    widget.open()
    widget.expect_state("ready")
    assert widget.events("consent") == []


def test_send_opens_it_and_gives_the_answer(open_widget: OpenWidget):
    widget = open_widget(STORED)
    assert widget.run("chat.send('Hi')") == {"role": "assistant", "content": "One."}
    expect(widget.frame).to_be_visible()
    assert "".join(detail["content"] for detail in widget.events("delta")) == "One."
    assert widget.run("chat.regenerate()") == {"role": "assistant", "content": "Two."}
    assert widget.run("chat.export()") == "## You\n\nHi\n\n## Assistant\n\nTwo.\n"
    assert json.loads(widget.run("chat.export('json')")) == widget.run("chat.messages")


def test_a_message_can_be_held_back(open_widget: OpenWidget):
    widget = ready(open_widget)
    widget.run("chat.addEventListener('message', (event) => event.preventDefault())")
    widget.box.fill("My password is")
    widget.box.press("Enter")
    expect(widget.box).to_have_value("My password is")
    expect(widget.questions).to_have_count(0)
    assert widget.run("chat.send('again')") is None
    assert widget.asked_of_engine() == []


def test_requests_have_what_the_site_set(open_widget: OpenWidget):
    widget = open_widget(STORED)
    widget.run("""Object.assign(chat, {
      systemPrompt: "Be brief.", responseFormat: { type: "json_object" },
      messages: [{ role: "user", content: "Before" }, { role: "assistant", content: "Yes." }] })""")
    widget.run("chat.send('Hi')")
    (request,) = widget.asked_of_engine()
    assert request["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Before"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Hi"},
    ]
    assert request["response_format"] == {"type": "json_object"}
    assert "tools" not in request


@pytest.mark.parametrize(
    ("named", "expected"), [({}, 0.7), ({"top_p": 0.8}, None), ({"temperature": 0}, None)]
)
def test_a_model_whose_files_name_no_sampling_draws_as_a_chat_does(
    open_widget: OpenWidget, named: dict[str, float], expected: float | None
):
    widget = open_widget({"missingBytes": 0, "sampling": named})
    widget.open()
    widget.ask("Hi")
    (request,) = widget.asked_of_engine()
    assert request.get("temperature") == expected


def test_wrong_messages_are_refused(open_widget: OpenWidget):
    widget = open_widget()
    for wrong in ("'Hi'", "[{ role: 'system', content: 'x' }]", "[{ role: 'user' }]", "[null]"):
        failure = (
            f"(() => {{ try {{ chat.messages = {wrong}; }} catch (e) {{ return e.name; }} }})()"
        )
        assert widget.run(failure) == "TypeError"
    assert widget.run("chat.messages") == []


def test_stop_and_clear(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0, "manualAnswer": True})
    widget.open()
    widget.box.fill("Hi")
    widget.box.press("Enter")
    widget.engine("push", "Some")
    expect(widget.answers).to_contain_text("Some")
    widget.run("chat.stop()")
    expect(widget.answers).to_contain_text("Stopped.")
    widget.box.fill("Hi again")
    widget.box.press("Enter")
    widget.expect_state("answering")
    widget.run("chat.clear()")
    expect(widget.questions).to_have_count(0)
    widget.expect_state("ready")
    # What the old answer still does must not be seen.
    widget.engine("push", "Other")
    widget.box.fill("New")
    widget.box.press("Enter")
    widget.engine("push", "Answer")
    widget.engine("finish")
    expect(widget.answers).to_have_count(1)
    expect(widget.answers).to_contain_text("Answer")


def test_an_engine_of_the_site_is_used(open_widget: OpenWidget):
    widget = open_widget()
    widget.run("""(chat.engine = { onEvent: () => () => {}, chat: { completions: {
      create: async function* ({ messages }) {
        const content = messages[0].content.toUpperCase();
        yield { choices: [{ delta: { content }, finish_reason: "stop" }] };
      } } } }, null)""")
    # The generator is what an engine's promise resolves to.
    assert widget.run("chat.send('hi')") == {"role": "assistant", "content": "HI"}
    assert widget.page.evaluate("window.widgetEngines ?? null") is None


def test_words_and_parts_of_the_site(open_widget: OpenWidget):
    widget = open_widget(STORED, attributes='id="help"')
    widget.run("""(chat.strings = { open: "Ask us", placeholder: "Your question" }, null)""")
    widget.run("""{
      const slotted = (slot, textContent) =>
        Object.assign(document.createElement("b"), { slot, textContent });
      chat.append(slotted("header", "Help"), slotted("footer", "Imprint"));
    }""")
    widget.button("Ask us").click()
    expect(widget.box).to_have_attribute("placeholder", "Your question")
    expect(widget.page.get_by_text("Help", exact=True)).to_be_visible()
    expect(widget.page.get_by_text("Imprint")).to_be_visible()
    expect(widget.element.get_by_text("Small models")).to_be_hidden()


def test_other_words_come_at_once_and_the_conversation_stays(open_widget: OpenWidget):
    script = {"missingBytes": 0, "manualAnswer": True}
    widget = open_widget(script, attributes='storage="session"')
    widget.open()
    widget.box.fill("Hi")
    widget.box.press("Enter")
    widget.engine("push", "Some")
    expect(widget.answers).to_contain_text("Some")
    widget.run("chat.setAttribute('lang', 'de')")
    expect(widget.button("Antwort kopieren")).to_be_visible()
    expect(widget.element.get_by_text("Angehalten.")).to_be_visible()
    widget.run("chat.clear()")
    expect(widget.questions).to_have_count(0)
    assert widget.page.evaluate("sessionStorage.length") == 0


def test_a_site_changes_colours_and_measures(open_widget: OpenWidget):
    style = """addEventListener("DOMContentLoaded", () => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(`:root { font-size: 62.5% } mlc-chat { --mlc-chat-accent: rgb(120, 0, 60);
        --mlc-chat-rem: 16px; --mlc-chat-radius: 0px } mlc-chat::part(header) { background: rgb(1, 2, 3) }`);
      document.adoptedStyleSheets.push(sheet); });"""
    widget = ready(open_widget, init=style)
    widget.page.mouse.move(0, 0)
    look = "(selector, name) => getComputedStyle(chat.shadowRoot.querySelector(selector))[name]"
    assert widget.run(f"({look})('.launcher', 'backgroundColor')") == "rgb(120, 0, 60)"
    assert widget.run(f"({look})('.launcher', 'width')") == "56px"
    assert widget.run(f"({look})('.bar', 'backgroundColor')") == "rgb(1, 2, 3)"
    # The page's own rules stop at the widget.
    assert widget.run(f"({look})('.bar h2', 'color')") != "rgb(255, 0, 0)"


@pytest.mark.parametrize(
    ("storage", "area"), [("session", "sessionStorage"), ("local", "localStorage")]
)
def test_a_conversation_is_kept_where_the_site_says(
    open_widget: OpenWidget, storage: str, area: str
):
    widget = ready(open_widget, attributes=f'storage="{storage}" id="help"')
    widget.ask("Hi")
    assert widget.page.evaluate(f"Object.keys({area})") == ["mlc-chat:help"]
    widget.page.reload()
    widget.open()
    expect(widget.questions.locator(".body")).to_have_text(["Hi"])
    widget.button("New conversation").click()
    assert widget.page.evaluate(f"{area}.length") == 0


def test_of_a_long_conversation_the_end_is_kept(open_widget: OpenWidget):
    former = [{"role": "user", "content": str(number)} for number in range(200)]
    init = f"sessionStorage['mlc-chat:help'] ??= {json.dumps(json.dumps(former))};"
    widget = ready(open_widget, attributes='storage="session" id="help"', init=init)
    widget.ask("Last")
    found = "JSON.parse(sessionStorage['mlc-chat:help']).map(({ content }) => content)"
    kept = widget.page.evaluate(found)
    assert (len(kept), kept[0], kept[-2]) == (200, "2", "Last")


def test_what_is_kept_is_forgotten_without_opening(open_widget: OpenWidget):
    widget = ready(open_widget, attributes='storage="local"')
    widget.ask("Hi")
    widget.page.reload()
    widget.run("chat.clear()")
    assert widget.page.evaluate("localStorage.length") == 0


def test_properties_that_were_set_before_the_script_came(open_widget: OpenWidget):
    init = """new MutationObserver((_, observer) => {
      const chat = document.querySelector("mlc-chat");
      if (chat) observer.disconnect();
      if (chat) chat.starters = ["What do you sell?"];
    }).observe(document, { childList: true, subtree: true });"""
    widget = ready(open_widget, init=init)
    widget.button("What do you sell?").click()
    expect(widget.questions.locator(".body")).to_have_text(["What do you sell?"])


def test_a_conversation_is_kept_nowhere_else(open_widget: OpenWidget):
    widget = ready(open_widget)
    widget.ask("Hi")
    assert widget.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert widget.page.context.cookies() == []


def test_a_server_answers_where_this_browser_can_not(open_widget: OpenWidget):
    server = Server(events({"content": "From afar."}))
    no_gpu = {"code": "webgpu_unavailable", "message": "No WebGPU.", "remedy": "Use another."}
    widget = open_widget(
        {"misfits": {"pocket": no_gpu}},
        attributes='server="api/v1#small"',
        routes={"**/api/v1/**": server},
    )
    widget.open()
    widget.expect_state("ready")
    expect(widget.element.locator("#hint")).to_have_text(
        re.compile("Answers come from 127.0.0.1:.*goes there")
    )
    widget.ask("Hi")
    expect(widget.answers).to_contain_text("From afar.")
    assert server.asked[0]["model"] == "small"
    assert server.asked[0]["messages"] == [{"role": "user", "content": "Hi"}]
    assert [problem["code"] for problem in widget.events("error")] == []


def test_a_server_is_not_asked_for_what_went_wrong_here(open_widget: OpenWidget):
    server = Server()
    problem = {"code": "integrity_error", "message": "Damaged.", "remedy": "Try again."}
    widget = open_widget(
        {"missingBytes": 0, "loadProblems": [problem]},
        attributes='server="api/v1#small"',
        routes={"**/api/v1/**": server},
    )
    widget.open()
    widget.expect_state("error")
    widget.button("Try again").click()
    widget.expect_state("ready")
    assert widget.events("ready") == [{"host": None}]


def test_the_end_of_a_forgotten_answer_changes_nothing(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0, "manualAnswer": True})
    widget.run("(chat.send('Old'), null)")
    widget.expect_state("answering")
    widget.run("(chat.clear(), chat.send('New'), null)")
    expect(widget.questions.locator(".body")).to_have_text(["New"])
    widget.engine("push", "Some")
    expect(widget.answers).to_contain_text("Some")
    expect(widget.button("Stop")).to_be_visible()
    widget.expect_state("answering")


def test_an_answer_waits_for_all_its_tools(open_widget: OpenWidget):
    calls = [
        {"index": n, "id": f"c{n}", "function": {"name": "f", "arguments": "{}"}} for n in (0, 1)
    ]
    server = Server(
        events({"tool_calls": calls}, finish="tool_calls"), events({"content": "Both."})
    )
    init = """addEventListener("DOMContentLoaded", () => {
      const chat = document.querySelector("mlc-chat");
      chat.removeAttribute("src");
      chat.addEventListener("toolcall", ({ detail }) => { window.respond = detail.respond; });
    });"""
    widget = open_widget(attributes='server="api/v1#m"', routes={"**/api/v1/**": server}, init=init)
    widget.run("(chat.send('Hi'), null)")
    expect(widget.answers).to_contain_text("Looked something up.")
    widget.page.evaluate("respond('c0', 'one')")
    expect(widget.answers).to_have_count(1)
    widget.page.evaluate("respond('c1', 'two')")
    expect(widget.answers.last).to_contain_text("Both.")
    assert [turn["role"] for turn in server.asked[1]["messages"]] == [
        "user",
        "assistant",
        "tool",
        "tool",
    ]


def test_tools_of_the_site_are_called(open_widget: OpenWidget):
    part = {"index": 0, "function": {"arguments": '{"id"'}}
    first = {"index": 0, "id": "c1", "function": {"name": "parcel", "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": ": 7}"}}
    calls = events(*({"tool_calls": [call]} for call in (first, part, rest)), finish="tool_calls")
    server = Server(calls, events({"content": "It is in Rome."}))
    init = """addEventListener("DOMContentLoaded", () => {
      const chat = document.querySelector("mlc-chat");
      chat.removeAttribute("src");
      chat.tools = [{ type: "function", function: { name: "parcel" } }];
      chat.addEventListener("toolcall", ({ detail: { calls, respond } }) => {
        window.called = calls;
        respond(calls[0].id, "Rome");
      });
    });"""
    widget = open_widget(attributes='server="api/v1"', routes={"**/api/v1/**": server}, init=init)
    widget.open()
    widget.box.fill("Where is my parcel?")
    widget.box.press("Enter")
    expect(widget.answers.last).to_contain_text("It is in Rome.")
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "parcel", "arguments": '{"id": 7}'},
    }
    assert widget.page.evaluate("called") == [call]
    assert server.asked[0]["model"] == "first" and server.asked[0]["tools"]
    assert server.asked[1]["messages"] == [
        {"role": "user", "content": "Where is my parcel?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Rome"},
    ]


def test_a_server_that_fails_is_told_of_and_asked_again(open_widget: OpenWidget):
    failed = {"error": {"message": "Too busy.", "code": "rate_limit"}}
    server = Server(f"data: {json.dumps(failed)}\n\n", events({"content": "Now."}))
    init = """addEventListener("DOMContentLoaded", () =>
      document.querySelector("mlc-chat").removeAttribute("src"));"""
    widget = open_widget(attributes='server="api/v1#m"', routes={"**/api/v1/**": server}, init=init)
    widget.open()
    widget.box.fill("Hi")
    widget.box.press("Enter")
    expect(widget.answers).to_contain_text("Something went wrong.")
    assert [problem["message"] for problem in widget.events("error")] == ["Too busy."]
    widget.button("Try again").click()
    expect(widget.answers).to_contain_text("Now.")
