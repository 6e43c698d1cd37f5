"""Titles by the model: asked for when it is idle, taken if they are some, and in nobody's way."""

import pytest
from playwright.sync_api import expect

from tests.page.conftest import BIG, Chat, OpenChat
from tests.page.test_conversations import choose
from tests.page.test_history import kept, new_chat, titles
from tests.page.test_tabs import rename, second_tab
from tests.page.test_temporary import begin

FIRST = "Could you tell me about cats?"


def talking(open_chat: OpenChat, *answers: str, manual: bool = False, **options: object) -> Chat:
    """A model that is big enough, on this device."""
    script = {"answers": list(answers), "manualAnswer": manual, "stored": [BIG["id"]]}
    return open_chat(script, bundles=(BIG,), **options)


def asked(chat: Chat, count: int) -> None:
    chat.page.wait_for_function("(count) => fake.engine.requests.length === count", arg=count)


def ask(chat: Chat, text: str, answer: str) -> None:
    chat.send(text)
    chat.engine("push", answer)
    chat.engine("finish")
    chat.expect_engine("ready")


def test_the_model_names_a_chat_after_its_first_answer(open_chat: OpenChat):
    chat = talking(open_chat, "They purr.", 'Title: "All About Cats."\nAnd more', "Yes.")
    chat.ask(FIRST)
    expect(chat.conversations.get_by_role("link")).to_have_text(["All About Cats"])
    expect(chat.page).to_have_title("All About Cats · mlc-edge")
    request = chat.requests()[1]
    assert [m["content"] for m in request["messages"][:2]] == [FIRST, "They purr."]
    assert request["messages"][2]["role"] == "user"
    assert request["max_tokens"] == 16 and request["temperature"] == 0
    assert "continue_final_message" not in request
    expect(chat.texts).to_have_text([FIRST, "They purr."])
    chat.ask("Really?")
    chat.reload()
    assert titles(chat) == ["All About Cats"]
    chat.ask("Once more?")
    # Nothing but what was sent.
    assert len(chat.requests()) == 1


def test_other_tabs_get_the_title(open_chat: OpenChat):
    chat = talking(open_chat, manual=True)
    ask(chat, FIRST, "They purr.")
    asked(chat, 2)
    other = second_tab(chat, {})
    expect(other.page).to_have_title(f"{FIRST} · mlc-edge")
    chat.engine("push", "Cats")
    chat.engine("finish")
    expect(other.page).to_have_title("Cats · mlc-edge")
    expect(other.conversations.get_by_role("link")).to_have_text(["Cats"])


@pytest.mark.parametrize(
    "written",
    [
        "",
        "***",
        "<think>",
        "Here is a title:",
        "I am sorry, but as a language model I can not give titles to chats",
        "x" * 61,
    ],
)
def test_what_is_no_title_is_not_taken(open_chat: OpenChat, written: str):
    chat = talking(open_chat, "They purr.", written, "Two.", "Trees")
    chat.ask(FIRST)
    asked(chat, 2)
    new_chat(chat)
    chat.ask("Second?")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Trees", FIRST])


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("**Cats: A History**", "Cats: A History"),
        ("# Cats", "Cats"),
        ("「猫について」", "猫について"),
        ("标题\uff1a猫", "猫"),
        ("  Cats,   mostly  ", "Cats, mostly"),
    ],
)
def test_titles_are_cleaned(open_chat: OpenChat, written: str, title: str):
    chat = talking(open_chat, "They purr.", written)
    chat.ask(FIRST)
    expect(chat.conversations.get_by_role("link")).to_have_text([title])


def test_a_title_that_has_no_end_is_not_taken(open_chat: OpenChat):
    chat = talking(open_chat, manual=True)
    ask(chat, FIRST, "They purr.")
    asked(chat, 2)
    chat.engine("push", "A title that goes on and")
    chat.engine("finish", "length")
    ask(chat, "Second?", "Yes.")
    assert titles(chat) == [FIRST]


@pytest.mark.parametrize("how", ["sends", "regenerates", "leaves"])
def test_a_person_comes_first(open_chat: OpenChat, how: str):
    chat = talking(open_chat, manual=True)
    ask(chat, FIRST, "They purr.")
    asked(chat, 2)
    chat.engine("push", "Half a ti")
    expect(chat.page.locator("html")).to_have_attribute("data-engine", "ready")
    if how == "leaves":
        new_chat(chat)
    if how == "regenerates":
        chat.page.get_by_role("button", name="Regenerate").click()
    else:
        chat.send("Now?")
    asked(chat, 3)
    chat.engine("push", "Here.")
    chat.engine("finish")
    expect(chat.texts.last).to_have_text("Here.")
    assert FIRST in titles(chat)
    assert "Half" not in str(kept(chat))


def test_a_name_that_somebody_chose_stays(open_chat: OpenChat):
    chat = talking(open_chat, manual=True)
    ask(chat, FIRST, "They purr.")
    asked(chat, 2)
    rename(chat, FIRST, "Mine")
    chat.engine("push", "Cats")
    chat.engine("finish")
    ask(chat, "Second?", "Yes.")
    expect(chat.page).to_have_title("Mine · mlc-edge")
    assert titles(chat) == ["Mine"]
    assert [c["title"] for c in kept(chat)["conversations"]] == ["Mine"]


def test_a_name_that_was_chosen_in_another_tab_stays(open_chat: OpenChat):
    chat = talking(open_chat, manual=True)
    ask(chat, FIRST, "They purr.")
    asked(chat, 2)
    chat.expect_kept()
    # As another tab does of which this one doesn't hear.
    chat.page.evaluate("""async () => {
      const opening = indexedDB.open("mlc-edge-chat");
      await new Promise((resolve) => { opening.onsuccess = resolve; });
      const transaction = opening.result.transaction("conversations", "readwrite");
      const store = transaction.objectStore("conversations");
      const got = store.getAll();
      got.onsuccess = () => store.put({ ...got.result[0], title: "Mine", named: true });
      await new Promise((resolve) => { transaction.oncomplete = resolve; });
      opening.result.close();
    }""")
    chat.engine("push", "Cats")
    chat.engine("finish")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Mine"])
    expect(chat.page).to_have_title("Mine · mlc-edge")
    assert [c["title"] for c in kept(chat)["conversations"]] == ["Mine"]


def test_small_models_and_temporary_chats_are_not_asked(open_chat: OpenChat):
    small = open_chat({"answers": ["One.", "Two."]})
    small.ask("First?")
    small.ask("Second?")
    assert len(small.requests()) == 2
    chat = talking(open_chat, "One.", "Two.")
    begin(chat)
    chat.ask("First?")
    chat.ask("Second?")
    assert len(chat.requests()) == 2


def test_it_can_be_turned_off(open_chat: OpenChat):
    chat = talking(open_chat, "One.", "Two.", "Three.", "Trees")
    chat.open_settings()
    dialog = chat.page.get_by_role("dialog", name="Settings for this chat")
    box = dialog.get_by_label("Let the model name chats")
    expect(box).to_be_checked()
    box.uncheck()
    dialog.get_by_role("button", name="Save").click()
    chat.reload()
    chat.ask("First?")
    chat.ask("Second?")
    assert len(chat.requests()) == 2
    chat.open_settings()
    expect(box).not_to_be_checked()
    box.check()
    dialog.get_by_role("button", name="Save").click()
    new_chat(chat)
    chat.ask("Third?")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Trees", "First?"])


def test_a_failure_is_nobodys_business(open_chat: OpenChat):
    chat = talking(open_chat, manual=True)
    ask(chat, FIRST, "They purr.")
    asked(chat, 2)
    chat.engine("break", {"code": "internal", "message": "It broke.", "remedy": "Try again."})
    ask(chat, "Second?", "Yes.")
    expect(chat.page.locator(".notice")).to_have_count(0)
    assert titles(chat) == [FIRST]
    choose(chat, FIRST, "Delete")
    expect(chat.conversations.get_by_role("link")).to_have_count(0)
