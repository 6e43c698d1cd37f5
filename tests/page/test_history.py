"""What is kept of conversations: all of it, in order, across reloads; and nothing that was deleted."""

from typing import Any

from playwright.sync_api import expect

from tests.browser import wait_for_value
from tests.page.conftest import Chat, OpenChat
from tests.page.test_conversations import choose

KEPT = """async () => {
  const request = indexedDB.open("mlc-edge-chat");
  const database = await new Promise((resolve) => { request.onsuccess = () => resolve(request.result); });
  const all = (name) => new Promise((resolve) => {
    const got = database.transaction(name).objectStore(name).getAll();
    got.onsuccess = () => resolve(got.result);
  });
  const [conversations, messages] = [await all("conversations"), await all("messages")];
  database.close();
  return { conversations, messages };
}"""
SEED = """async (count) => {
  const request = indexedDB.open("mlc-edge-chat");
  const database = await new Promise((resolve) => { request.onsuccess = () => resolve(request.result); });
  const transaction = database.transaction(["conversations", "messages"], "readwrite");
  const conversationId = location.hash.slice(1);
  const got = transaction.objectStore("conversations").get(conversationId);
  const conversation = await new Promise((resolve) => { got.onsuccess = () => resolve(got.result); });
  for (let position = 2; position < count; position += 1) {
    const role = position % 2 ? "assistant" : "user";
    const content = `message ${position}`;
    const id = `z${String(position).padStart(8, "0")}`;
    transaction.objectStore("messages").put(
      { conversationId, id, parentId: conversation.leafId, role, content, createdAt: 0, state: "stop" });
    conversation.leafId = id;
  }
  transaction.objectStore("conversations").put(conversation);
  await new Promise((resolve) => { transaction.oncomplete = resolve; });
  database.close();
}"""


def kept(chat: Chat) -> dict[str, Any]:
    """What the browser's database has in the end, in the order of its keys."""
    chat.expect_kept()
    return chat.page.evaluate(KEPT)


def kept_texts(chat: Chat) -> list[str]:
    return [message["content"] for message in kept(chat)["messages"]]


def wait_until_kept(chat: Chat, text: str) -> None:
    """An answer that grows is kept from time to time."""
    wait_for_value(chat.page, lambda: text in kept_texts(chat), True)


def new_chat(chat: Chat) -> None:
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.questions).to_have_count(0)


def titles(chat: Chat) -> list[str]:
    """Of what is kept in the end."""
    chat.expect_kept()
    return chat.conversations.get_by_role("link").all_inner_texts()


def test_all_turns_come_back_in_order(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two.", "Three."]})
    for question in ("First?", "Second?", "Third?"):
        chat.ask(question)
    turns = ["First?", "One.", "Second?", "Two.", "Third?", "Three."]
    expect(chat.texts).to_have_text(turns)
    chat.reload()
    expect(chat.texts).to_have_text(turns)
    chat.ask("Fourth?")
    assert [m["content"] for m in chat.requests()[0]["messages"]] == [*turns, "Fourth?"]


def test_conversations_do_not_mix(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("Apples?")
    new_chat(chat)
    chat.ask("Pears?")
    assert [m["content"] for m in chat.requests()[1]["messages"]] == ["Pears?"]
    chat.conversations.get_by_role("link", name="Apples?").click()
    expect(chat.texts).to_have_text(["Apples?", "One."])


def test_latest_used_conversation_comes_first(open_chat: OpenChat):
    chat = open_chat()
    for question in ("Apples?", "Pears?", "Plums?"):
        new_chat(chat)
        chat.ask(question)
    assert titles(chat) == ["Plums?", "Pears?", "Apples?"]
    chat.conversations.get_by_role("link", name="Apples?").click()
    expect(chat.texts.first).to_have_text("Apples?")
    # Reading is no use.
    assert titles(chat) == ["Plums?", "Pears?", "Apples?"]
    chat.ask("And?")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Apples?", "Plums?", "Pears?"])
    chat.reload()
    expect(chat.conversations.get_by_role("link")).to_have_text(["Apples?", "Plums?", "Pears?"])
    expect(chat.conversations.locator("[aria-current=page]")).to_have_text("Apples?")


def test_title_is_the_first_line_of_the_first_message(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("What is this?\nTell me.")
    chat.ask("Something else")
    assert titles(chat) == ["What is this?"]
    expect(chat.page).to_have_title("What is this? · mlc-edge")
    new_chat(chat)
    expect(chat.page).to_have_title("New chat · mlc-edge")
    chat.ask("word " * 30)
    title = titles(chat)[0]
    assert title.startswith("word word") and title.endswith("…") and len(title) <= 60


def test_title_is_text(open_chat: OpenChat):
    hostile = "<img src=x onerror='window.hacked = 1'>"
    chat = open_chat()
    chat.ask(hostile)
    assert titles(chat) == [hostile]
    expect(chat.texts.first).to_have_text(hostile)
    expect(chat.page.locator("main h1")).to_have_text(hostile)
    choose(chat, hostile, "Delete")
    expect(chat.page.get_by_role("region", name="Notifications")).to_contain_text(hostile)
    assert chat.page.locator("img[src=x]").count() == 0
    assert chat.page.evaluate("window.hacked") is None


def test_deleted_conversation_leaves_nothing_on_the_device(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("Keep me")
    new_chat(chat)
    chat.ask("Forget me")
    choose(chat, "Forget me", "Delete")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Keep me"])
    # It was open: a new chat is shown in its place.
    expect(chat.questions).to_have_count(0)
    assert kept_texts(chat) == ["Keep me", "One."]
    assert [c["title"] for c in kept(chat)["conversations"]] == ["Keep me"]
    chat.reload()
    expect(chat.conversations.get_by_role("link")).to_have_text(["Keep me"])


def test_deleting_another_conversation_keeps_the_open_one(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("Forget me")
    new_chat(chat)
    chat.ask("Keep me")
    choose(chat, "Forget me", "Delete")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Keep me"])
    expect(chat.texts).to_have_text(["Keep me", "Two."])


def test_undone_deletion_brings_all_of_it_back(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]})
    chat.ask("Precious")
    chat.ask("More")
    chat.open_settings()
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_label("Seed").fill("7")
    dialog.get_by_role("button", name="Save").click()
    new_chat(chat)
    chat.ask("Later")
    chat.conversations.get_by_role("link", name="Precious").click()
    expect(chat.questions).to_have_count(2)
    before = kept(chat)
    choose(chat, "Precious", "Delete")
    expect(chat.questions).to_have_count(0)
    undo = chat.page.get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    undo.click()
    expect(chat.texts).to_have_text(["Precious", "One.", "More", "Two."])
    expect(chat.conversations.get_by_role("link")).to_have_text(["Later", "Precious"])
    assert kept(chat) == before


def test_conversation_deleted_while_it_is_answered_stays_deleted(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Forget me")
    chat.engine("push", "Some words")
    expect(chat.answers.last).to_contain_text("Some words")
    choose(chat, "Forget me", "Delete")
    chat.expect_engine("ready")
    expect(chat.stop_button).to_be_hidden()
    expect(chat.conversations.get_by_role("link")).to_have_count(0)
    assert kept(chat) == {"conversations": [], "messages": []}


def test_answer_goes_on_while_another_conversation_is_read(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Long story")
    chat.engine("push", "Once ")
    expect(chat.answers.last).to_contain_text("Once")
    new_chat(chat)
    # One answer at a time, and what stops it is where it is.
    expect(chat.stop_button).to_be_hidden()
    chat.box.fill("Meanwhile?")
    chat.box.press("Enter")
    notifications = chat.page.get_by_role("region", name="Notifications")
    expect(notifications).to_contain_text("“Long story” is being answered")
    expect(chat.box).to_have_value("Meanwhile?")
    expect(chat.questions).to_have_count(0)
    # What is renamed meanwhile keeps its name when the answer is kept.
    choose(chat, "Long story", "Rename")
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("Tale")
    dialog.get_by_role("button", name="Rename").click()
    expect(chat.conversations.get_by_role("link")).to_have_text(["Tale"])
    chat.engine("push", "upon a time.")
    chat.engine("finish")
    chat.expect_engine("ready")
    expect(chat.answers).to_have_count(0)
    assert len(chat.requests()) == 1
    chat.conversations.get_by_role("link", name="Tale").click()
    expect(chat.answers.last).to_contain_text("Once upon a time.")
    chat.reload()
    expect(chat.conversations.get_by_role("link")).to_have_text(["Tale"])
    expect(chat.answers.last).to_contain_text("Once upon a time.")


def test_page_closed_in_the_middle_of_an_answer_keeps_its_beginning(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Long story")
    chat.engine("push", "Once upon")
    expect(chat.answers.last).to_contain_text("Once upon")
    wait_until_kept(chat, "Once upon")
    chat.reload()
    expect(chat.answers.last).to_contain_text("Once upon")
    expect(chat.answers.last).to_contain_text("Interrupted")
    expect(chat.answers.last.get_by_role("button", name="Regenerate")).to_be_visible()


def test_stopped_answer_is_kept_as_far_as_it_went(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Long story")
    chat.engine("push", "Once upon")
    expect(chat.answers.last).to_contain_text("Once upon")
    chat.stop_button.click()
    chat.expect_engine("ready")
    expect(chat.answers.last).to_contain_text("Stopped.")
    chat.reload()
    expect(chat.answers.last).to_contain_text("Once upon")
    expect(chat.answers.last).to_contain_text("Stopped.")


def test_long_conversation_shows_its_end_first(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Hello")
    chat.expect_kept()
    chat.page.evaluate(SEED, 100)
    chat.reload()
    articles = chat.page.get_by_role("article")
    expect(articles).to_have_count(40)
    expect(chat.texts.first).to_have_text("message 60")
    earlier = chat.page.get_by_role("button", name="Show earlier messages")
    earlier.click()
    expect(articles).to_have_count(80)
    earlier.click()
    expect(articles).to_have_count(100)
    later = [f"message {n}" for n in range(2, 100)]
    expect(chat.texts).to_have_text(["Hello", "Hello! How can I help you?", *later])
    expect(earlier).to_have_count(0)
    # Shown or not, all of it is asked with.
    chat.ask("And now?")
    assert len(chat.requests()[0]["messages"]) == 101


def test_several_deletions_can_be_undone(open_chat: OpenChat):
    chat = open_chat()
    for question in ("Apples?", "Pears?"):
        new_chat(chat)
        chat.ask(question)
    for question in ("Apples?", "Pears?"):
        choose(chat, question, "Delete")
        expect(chat.conversations).not_to_contain_text(question)
    undo = chat.page.get_by_role("button", name="Undo")
    expect(undo).to_have_count(2)
    undo.first.click()
    undo.first.click()
    expect(chat.conversations.get_by_role("link")).to_have_count(2)


def test_what_came_before_the_model_paused_is_kept(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Story?")
    for piece in ("Once", " upon", " a time"):
        chat.engine("push", piece)
    expect(chat.texts.last).to_have_text("Once upon a time")
    wait_until_kept(chat, "Once upon a time")
    chat.page.reload()
    expect(chat.texts.last).to_have_text("Once upon a time")
    expect(chat.answers.last.get_by_role("button", name="Continue")).to_be_visible()


def test_an_answer_that_ends_in_another_chat_is_told(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Story?")
    chat.engine("push", "Once")
    expect(chat.texts.last).to_have_text("Once")
    new_chat(chat)
    chat.engine("finish")
    notifications = chat.page.get_by_role("region", name="Notifications")
    expect(notifications).to_contain_text("“Story?” has been answered.")
    notifications.get_by_role("button", name="Show").click()
    expect(chat.texts).to_have_text(["Story?", "Once"])
