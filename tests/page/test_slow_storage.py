"""While the browser's storage takes its time: what is typed and sent is for what the address names."""

from playwright.sync_api import expect

from tests.page.conftest import POCKET, Chat, OpenChat
from tests.page.test_drafts import go_to, two_chats
from tests.page.test_history import new_chat

# A transaction that others wait for.
HOLD = """() => new Promise((held) => {
  const request = indexedDB.open("mlc-edge-chat");
  request.onsuccess = () => {
    const transaction = request.result.transaction(["conversations", "messages"], "readwrite");
    const goOn = () => {
      if (!globalThis.isFree) transaction.objectStore("messages").count().onsuccess = goOn;
    };
    globalThis.isFree = false;
    goOn();
    transaction.oncomplete = () => request.result.close();
    held();
  };
})"""
FREE = "() => { globalThis.isFree = true; }"


def first_shown(open_chat: OpenChat) -> tuple[Chat, str, str]:
    """The first of two conversations, with the addresses of both."""
    chat = two_chats(open_chat)
    chat.expect_kept()
    second = chat.page.evaluate("location.hash")
    go_to(chat, "First?")
    return chat, chat.page.evaluate("location.hash"), second


def name(chat: Chat, address: str) -> None:
    """Name it in the address; the page has heard of it then."""
    chat.page.evaluate(
        """(hash) => new Promise((heard) => {
          addEventListener("hashchange", heard, { once: true });
          location.hash = hash;
        })""",
        address,
    )


def begin_again(chat: Chat) -> Chat:
    """The page in a new tab, before the conversation of its address is read."""
    page = chat.page.context.new_page()
    page.add_init_script("window.script = {};")
    page.route("**/bundles/index.json", lambda route: route.fulfill(json={"bundles": [POCKET]}))
    page.goto(chat.address)
    page.wait_for_function("() => globalThis.fake !== undefined")
    return Chat(page)


def test_who_goes_back_before_another_conversation_is_read_stays(open_chat: OpenChat):
    chat, first, second = first_shown(open_chat)
    chat.page.evaluate(HOLD)
    name(chat, second)
    name(chat, first)
    chat.page.evaluate(FREE)
    chat.ask("Third?")
    expect(chat.texts).to_have_text(["First?", "One.", "Third?", "Two."])
    assert chat.page.evaluate("location.hash") == first


def test_a_question_goes_to_the_conversation_that_was_chosen(open_chat: OpenChat):
    chat, _, second = first_shown(open_chat)
    chat.page.evaluate(HOLD)
    name(chat, second)
    expect(chat.box).to_have_value("")
    chat.box.fill("Third?")
    chat.box.press("Enter")
    expect(chat.box).to_have_value("")
    chat.page.evaluate(FREE)
    expect(chat.texts).to_have_text(["Second?", "Two.", "Third?", "Two."])
    assert chat.page.evaluate("location.hash") == second


def test_what_is_typed_at_the_start_stays_with_the_conversation(open_chat: OpenChat):
    chat, _, _ = first_shown(open_chat)
    chat.box.fill("a draft")
    chat.page.evaluate(HOLD)
    other = begin_again(chat)
    other.box.press_sequentially("and more")
    chat.page.evaluate(FREE)
    expect(other.texts).to_have_text(["First?", "One."])
    expect(other.box).to_have_value("a draft\nand more")
    new_chat(other)
    expect(other.box).to_have_value("")


def test_what_is_entered_at_the_start_is_asked_there(open_chat: OpenChat):
    chat, first, _ = first_shown(open_chat)
    chat.page.evaluate(HOLD)
    other = begin_again(chat)
    other.box.fill("Third?")
    other.box.press("Enter")
    chat.page.evaluate(FREE)
    expect(other.questions.locator(".body")).to_have_text(["First?", "Third?"])
    assert other.page.evaluate("location.hash") == first


def test_what_is_typed_in_a_temporary_chat_stays_when_another_one_is_read(open_chat: OpenChat):
    chat, _, second = first_shown(open_chat)
    chat.page.evaluate(HOLD)
    name(chat, second)
    chat.page.locator("#temporary-chat").click()
    chat.box.fill("a secret")
    chat.page.evaluate(FREE)
    expect(chat.conversations.get_by_role("link")).to_have_count(2)
    chat.ask("What is it?")
    expect(chat.texts.first).to_have_text("What is it?")
    expect(chat.page.locator("#temporary")).to_be_visible()


def test_a_draft_stays_with_its_conversation_while_others_are_looked_through(open_chat: OpenChat):
    chat, first, second = first_shown(open_chat)
    new_chat(chat)
    chat.ask("Third?")
    third = chat.page.evaluate("location.hash")
    go_to(chat, "First?")
    chat.box.fill("for the first")
    chat.page.evaluate(HOLD)
    name(chat, second)
    name(chat, third)
    chat.page.evaluate(FREE)
    expect(chat.texts.first).to_have_text("Third?")
    expect(chat.box).to_have_value("")
    name(chat, first)
    expect(chat.box).to_have_value("for the first")


def test_an_answer_goes_on_before_what_was_written_of_it_is_kept(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Story?")
    chat.engine("push", "Once")
    chat.expect_kept()
    chat.page.evaluate(HOLD)
    chat.engine("finish", "length")
    chat.page.get_by_role("button", name="Continue", exact=True).click()
    chat.expect_engine("generating")
    chat.engine("push", " upon")
    expect(chat.texts.last).to_have_text("Once upon")
    chat.page.evaluate(FREE)
    chat.engine("finish")
    chat.reload()
    expect(chat.texts).to_have_text(["Story?", "Once upon"])


def test_the_answer_before_goes_on_while_neither_is_kept(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Story?")
    chat.engine("push", "Once")
    chat.expect_kept()
    chat.page.evaluate(HOLD)
    chat.engine("finish", "length")
    chat.answers.last.get_by_role("button", name="Regenerate").click()
    chat.engine("push", "Long ago")
    expect(chat.texts.last).to_have_text("Long ago")
    chat.engine("finish", "length")
    chat.answers.last.get_by_role("button", name="Earlier version").click()
    chat.page.get_by_role("button", name="Continue", exact=True).click()
    chat.expect_engine("generating")
    chat.engine("push", " upon")
    expect(chat.texts.last).to_have_text("Once upon")
    chat.page.evaluate(FREE)
    chat.engine("finish")
    chat.reload()
    expect(chat.texts).to_have_text(["Story?", "Once upon"])
