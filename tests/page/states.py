"""Every state that people can meet the chat page in: how it gets there."""

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from tests.page.conftest import BIG, POCKET, Chat, OpenChat
from tests.page.test_conversations import choose
from tests.page.test_tabs import second_tab
from tests.page.texts import CODE, DATA, DIAGRAM, FORMULAS, PROSE, RIGHT_TO_LEFT, TABLE, THOUGHT

SECOND = {**POCKET, "id": "second-q4f16_1", "url": "bundles/second-q4f16_1/"}
NO_WEBGPU = {
    "code": "webgpu_unavailable",
    "message": "This browser has no WebGPU.",
    "remedy": "Use another browser.",
}
BROKEN = {"code": "network_error", "message": "The download broke off.", "remedy": "Try once more."}
LOST = {"code": "device_lost", "message": "The GPU went away.", "remedy": "Load the model again."}
TOO_SMALL = {
    "code": "gpu_too_small",
    "message": "The GPU has too little memory.",
    "remedy": "Choose a smaller model.",
}
# A model may begin with a heading of the third level: what it writes keeps its levels.
AXE_VIOLATIONS = """async () => {
  const { violations } = await axe.run({ resultTypes: ["violations"] });
  return violations
    .map(({ id, nodes }) => [id, nodes.map(({ html, target }) => [html, ...target])])
    .map(([id, nodes]) => [id, nodes.filter(([, target]) =>
      id !== "heading-order" || !document.querySelector(target).closest(".prose"))])
    .filter(([, nodes]) => nodes.length > 0);
}"""
Reach = Callable[[OpenChat], Chat]


def asked(open_chat: OpenChat, answer: Any, question: str = "How do I export my data?") -> Chat:
    chat = open_chat({"answers": [answer]})
    chat.ask(question)
    return chat


def writing(open_chat: OpenChat, text: str = "Open the **settings**, then") -> Chat:
    chat = open_chat({"manualAnswer": True})
    chat.box.fill("How do I export my data?")
    chat.box.press("Enter")
    chat.engine("push", text)
    expect(chat.answers).to_contain_text("then")
    return chat


def with_sidebar(chat: Chat) -> Chat:
    """In front, on a phone."""
    opener = chat.page.get_by_role("button", name="Conversations", exact=True)
    if opener.is_visible():
        opener.click()
    # It slides in.
    expect(chat.page.get_by_role("button", name="New chat")).to_be_in_viewport(ratio=1)
    return chat


def empty(open_chat: OpenChat) -> Chat:
    return open_chat()


def no_models(open_chat: OpenChat) -> Chat:
    chat = open_chat(bundles=(), ready=False)
    chat.expect_engine("error")
    return chat


def not_loaded(open_chat: OpenChat) -> Chat:
    chat = open_chat(bundles=(BIG,), ready=False)
    expect(chat.page.get_by_role("button", name="Load big-q4f16_1")).to_be_visible()
    return chat


def waiting_for_consent(open_chat: OpenChat) -> Chat:
    chat = not_loaded(open_chat)
    chat.box.fill("Hello")
    chat.box.press("Enter")
    expect(chat.page.get_by_role("button", name="Load big-q4f16_1")).to_be_focused()
    return chat


def loading(open_chat: OpenChat) -> Chat:
    chat = open_chat({"manualLoad": True}, ready=False)
    chat.expect_engine("loading")
    event = {"kind": "progress", "stage": "download", "loadedBytes": 1_200_000}
    chat.engine("emit", {**event, "totalBytes": 2_400_000, "bytesPerSecond": 3_100_000})
    expect(chat.page.locator("#load-text")).to_contain_text("1.2")
    return chat


def load_failed(open_chat: OpenChat) -> Chat:
    chat = open_chat({"loadProblems": [BROKEN]}, bundles=(POCKET, BIG), ready=False)
    chat.expect_engine("error")
    return chat


def no_webgpu(open_chat: OpenChat) -> Chat:
    chat = open_chat({"loadProblems": [NO_WEBGPU]}, ready=False)
    chat.expect_engine("error")
    return chat


def key_wanted(open_chat: OpenChat) -> Chat:
    refused = {"error": {"message": "Give an API key.", "type": "x", "code": "invalid_api_key"}}
    chat = open_chat(
        bundles=(),
        ready=False,
        init="delete Navigator.prototype.gpu;",
        daemon=lambda route: route.fulfill(status=401, json=refused),
    )
    expect(chat.page.get_by_label("API key")).to_be_visible()
    return chat


def waiting(open_chat: OpenChat) -> Chat:
    chat = open_chat({"manualAnswer": True})
    chat.box.fill("How do I export my data?")
    chat.box.press("Enter")
    expect(chat.stop_button).to_be_visible()
    return chat


def answering(open_chat: OpenChat) -> Chat:
    return writing(open_chat)


def stopped(open_chat: OpenChat) -> Chat:
    chat = writing(open_chat)
    chat.stop_button.click()
    expect(chat.answers).to_contain_text("Stopped.")
    return chat


def ended_by_length(open_chat: OpenChat) -> Chat:
    chat = writing(open_chat)
    chat.engine("finish", "length")
    expect(chat.page.get_by_role("button", name="Copy answer")).to_be_visible()
    return chat


def failed_answer(open_chat: OpenChat) -> Chat:
    chat = open_chat({"answers": [LOST]})
    chat.box.fill("How do I export my data?")
    chat.box.press("Enter")
    expect(chat.answers).to_contain_text(LOST["message"])
    return chat


def answered(open_chat: OpenChat) -> Chat:
    return asked(open_chat, PROSE)


def measured(open_chat: OpenChat) -> Chat:
    chat = asked(open_chat, "Open the settings.")
    chat.answers.locator("summary").click()
    expect(chat.answers.locator("dl")).to_be_visible()
    return chat


def wide_table(open_chat: OpenChat) -> Chat:
    return asked(open_chat, TABLE)


def wide_code(open_chat: OpenChat) -> Chat:
    return asked(open_chat, CODE)


def right_to_left(open_chat: OpenChat) -> Chat:
    return asked(open_chat, RIGHT_TO_LEFT, "كيف أصدّر بياناتي؟")


def long_words(open_chat: OpenChat) -> Chat:
    return asked(open_chat, f"See {'x' * 200} and https://example.com/{'y' * 120}", "z" * 150)


def many_messages(open_chat: OpenChat) -> Chat:
    chat = open_chat({"answers": ["One line.", PROSE]})
    for question in ("First?", "Second?", "Third?"):
        chat.ask(question)
    chat.page.locator("#scroller").hover()
    chat.page.mouse.wheel(0, -600)
    expect(chat.page.get_by_role("button", name="Latest")).to_be_visible()
    return chat


def versions(open_chat: OpenChat) -> Chat:
    chat = asked(open_chat, "Open the settings.")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.page.get_by_role("group", name="Version")).to_have_text("2/2")
    chat.expect_engine("ready")
    return chat


def editing(open_chat: OpenChat) -> Chat:
    chat = asked(open_chat, PROSE)
    chat.page.get_by_role("button", name="Edit message").click()
    return chat


def sidebar(open_chat: OpenChat) -> Chat:
    chat = open_chat()
    for title in ("Exports", "A question with a title that is too long for its place", "Cats"):
        chat.ask(title)
        chat.page.evaluate("() => { location.hash = ''; }")
        expect(chat.questions).to_have_count(0)
    return with_sidebar(chat)


def sidebar_menu(open_chat: OpenChat) -> Chat:
    chat = sidebar(open_chat)
    chat.open_menu("Exports")
    expect(chat.page.get_by_role("button", name="Rename")).to_be_visible()
    return chat


def found(open_chat: OpenChat) -> Chat:
    chat = sidebar(open_chat)
    chat.page.get_by_role("searchbox").fill("cats")
    expect(chat.conversations.get_by_role("link")).to_have_count(1)
    return chat


def not_found(open_chat: OpenChat) -> Chat:
    chat = sidebar(open_chat)
    chat.page.get_by_role("searchbox").fill("dogs")
    expect(chat.conversations.get_by_role("link")).to_have_count(0)
    return chat


def renaming(open_chat: OpenChat) -> Chat:
    chat = sidebar_menu(open_chat)
    chat.page.get_by_role("button", name="Rename").click()
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    return chat


def deleted(open_chat: OpenChat) -> Chat:
    chat = sidebar_menu(open_chat)
    chat.page.get_by_role("button", name="Delete", exact=True).click()
    expect(chat.page.get_by_role("button", name="Undo")).to_be_visible()
    return chat


def models(open_chat: OpenChat) -> Chat:
    script = {
        "stored": ["pocket-q4f16_1"],
        "partial": {"second-q4f16_1": 1_100_000},
        "misfits": {"big": TOO_SMALL},
        "leftoverBytes": 3_000_000,
    }
    chat = open_chat(script, bundles=(POCKET, SECOND, BIG))
    chat.open_models()
    expect(chat.page.get_by_text(TOO_SMALL["message"])).to_be_visible()
    return chat


def settings(open_chat: OpenChat) -> Chat:
    chat = open_chat()
    chat.open_settings()
    return chat


def wrong_setting(open_chat: OpenChat) -> Chat:
    chat = settings(open_chat)
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_label("Temperature").fill("5")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator("[aria-invalid=true]")).to_have_count(1)
    return chat


def notices(open_chat: OpenChat) -> Chat:
    chat = open_chat(
        {"isSoftware": True, "uncontrolled": True, "answers": ["Open the settings."]},
        init="Object.defineProperty(window, 'indexedDB', { value: undefined });",
    )
    chat.page.evaluate("fake.announceUpdate()")
    chat.ask("How do I export my data?")
    expect(chat.page.locator(".notice").nth(2)).to_be_visible()
    return chat


def offline(open_chat: OpenChat) -> Chat:
    chat = asked(open_chat, "Open the settings.")
    chat.page.context.set_offline(True)
    expect(chat.page.locator("#offline-state")).to_have_text(re.compile("[Oo]ffline"))
    return with_sidebar(chat)


def answered_elsewhere(open_chat: OpenChat) -> Chat:
    writer = writing(open_chat)
    return second_tab(writer, {})


def thought(open_chat: OpenChat) -> Chat:
    chat = asked(open_chat, THOUGHT)
    chat.answers.last.locator(".thinking summary").click()
    expect(chat.answers.last.locator(".thinking strong")).to_be_visible()
    return chat


def formulas(open_chat: OpenChat) -> Chat:
    chat = asked(open_chat, FORMULAS, "How are quadratic equations solved?")
    expect(chat.texts.last.locator(".katex")).to_have_count(4)
    return chat


def diagram(open_chat: OpenChat) -> Chat:
    chat = asked(open_chat, DIAGRAM, "What happens when I ask?")
    picture = chat.texts.last.get_by_role("img", name="Diagram")
    expect(picture).to_be_visible(timeout=30_000)
    return chat


def data(open_chat: OpenChat) -> Chat:
    return asked(open_chat, DATA, "What is the weather?")


def temporary(open_chat: OpenChat) -> Chat:
    chat = with_sidebar(open_chat({"answers": ["Open the settings."]}))
    chat.page.locator("#temporary-chat").click()
    chat.ask("How do I export my data?")
    return chat


def pinned(open_chat: OpenChat) -> Chat:
    chat = sidebar(open_chat)
    title = chat.conversations.get_by_role("link").last.inner_text()
    choose(chat, title, "Pin")
    expect(chat.conversations.get_by_role("heading", name="Pinned")).to_be_visible()
    return chat


def sharing(open_chat: OpenChat) -> Chat:
    chat = with_sidebar(asked(open_chat, "Open the settings."))
    choose(chat, "How do I export my data?", "Share")
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    return chat


STATES: list[Reach] = [
    thought,
    formulas,
    diagram,
    data,
    temporary,
    pinned,
    sharing,
    empty,
    no_models,
    not_loaded,
    waiting_for_consent,
    loading,
    load_failed,
    no_webgpu,
    key_wanted,
    waiting,
    answering,
    stopped,
    ended_by_length,
    failed_answer,
    answered,
    measured,
    wide_table,
    wide_code,
    right_to_left,
    long_words,
    many_messages,
    versions,
    editing,
    sidebar,
    sidebar_menu,
    found,
    not_found,
    renaming,
    deleted,
    models,
    settings,
    wrong_setting,
    notices,
    offline,
    answered_elsewhere,
]
