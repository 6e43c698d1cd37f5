"""What is typed and not sent yet: it belongs to its chat, and outlives reloads."""

from playwright.sync_api import Browser, expect

from tests.browser import Held
from tests.page.conftest import POCKET, Chat, OpenChat
from tests.page.test_conversations import choose
from tests.page.test_history import new_chat
from tests.page.test_tabs import second_tab


def two_chats(open_chat: OpenChat) -> Chat:
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("First?")
    new_chat(chat)
    chat.ask("Second?")
    return chat


def go_to(chat: Chat, title: str) -> None:
    chat.conversations.get_by_role("link", name=title).click()
    expect(chat.texts.first).to_have_text(title)


def test_each_chat_has_its_own(open_chat: OpenChat):
    chat = two_chats(open_chat)
    chat.box.fill("for the second")
    go_to(chat, "First?")
    expect(chat.box).to_have_value("")
    chat.box.fill("for the first")
    new_chat(chat)
    expect(chat.box).to_have_value("")
    chat.box.fill("for a new one")
    chat.reload()
    expect(chat.box).to_have_value("for a new one")
    go_to(chat, "First?")
    expect(chat.box).to_have_value("for the first")
    go_to(chat, "Second?")
    chat.reload()
    expect(chat.box).to_have_value("for the second")


def test_what_is_sent_is_none_any_more(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("First?")
    chat.ask("Second?")
    new_chat(chat)
    expect(chat.box).to_have_value("")
    go_to(chat, "First?")
    chat.reload()
    expect(chat.box).to_have_value("")


def test_a_deleted_chat_takes_it_along_and_brings_it_back(open_chat: OpenChat):
    chat = two_chats(open_chat)
    chat.box.fill("and")
    choose(chat, "Second?", "Delete")
    expect(chat.box).to_have_value("")
    stored = "[localStorage, sessionStorage].flatMap((area) => Object.values({ ...area }))"
    assert "and" not in chat.page.evaluate(stored)
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.texts.first).to_have_text("Second?")
    expect(chat.box).to_have_value("and")
    expect(chat.box).to_be_focused()


def test_an_example_leaves_what_is_typed(open_chat: OpenChat):
    chat = open_chat({"answers": ["Yes."]})
    chat.box.fill("half a thought")
    chat.page.get_by_role("list", name="Examples").get_by_role("button").first.click()
    expect(chat.answers.last).to_contain_text("Yes.")
    expect(chat.box).to_have_value("half a thought")
    chat.reload()
    expect(chat.box).to_have_value("half a thought")


def test_another_tabs_question_leaves_what_is_typed(open_chat: OpenChat):
    chat = open_chat({"answers": ["One."]})
    chat.ask("First?")
    other = second_tab(chat, {"answers": ["Two."]})
    chat.box.fill("a long draft")
    other.ask("short")
    chat.reload()
    expect(chat.box).to_have_value("a long draft")


def before_its_script(browser: Browser, host_url: str) -> tuple[Chat, Held]:
    page = browser.new_page()
    page.route("**/bundles/index.json", lambda route: route.fulfill(json={"bundles": [POCKET]}))
    script = Held()
    page.route("**/dist/chat.js", script)
    page.goto(host_url, wait_until="commit")
    chat = Chat(page)
    return chat, script


def test_what_is_typed_before_the_script_is_there_stays(browser: Browser, host_url: str):
    """On a slow network the message box is there first."""
    chat, script = before_its_script(browser, host_url)
    chat.send("Am I early?")
    script.let_go(chat.page)
    chat.expect_engine("ready")
    expect(chat.box).to_have_value("Am I early?")
    chat.send_button.click()
    expect(chat.texts.first).to_have_text("Am I early?")
    chat.page.close()


def test_what_is_entered_before_the_script_is_there_is_sent(browser: Browser, host_url: str):
    chat, script = before_its_script(browser, host_url)
    chat.box.press_sequentially("Am I early?\n")
    script.let_go(chat.page)
    expect(chat.answers).to_contain_text("How can I help you?")
    expect(chat.texts.first).to_have_text("Am I early?")
    expect(chat.box).to_have_value("")
    chat.page.unroute("**/dist/chat.js")
    chat.expect_kept()
    chat.page.reload()
    expect(chat.questions).to_have_count(1)
    expect(chat.box).to_have_value("")
    chat.page.close()
