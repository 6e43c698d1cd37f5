"""Settings: checked, sent, kept with their chat, and the defaults of new ones."""

import json

import pytest
from playwright.sync_api import Locator, expect

from tests.page.conftest import Chat, OpenChat

SAMPLING = {"temperature", "top_p", "min_p", "max_tokens", "seed"}


def open_settings(chat: Chat) -> Locator:
    chat.open_settings()
    return chat.page.get_by_role("dialog", name="Settings for this chat")


def save(chat: Chat, *, default: bool = False, **fields: str) -> None:
    dialog = open_settings(chat)
    for label, value in fields.items():
        dialog.get_by_label(label.replace("_", " ")).fill(value)
    if default:
        dialog.get_by_label("Use for new chats as well").check()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()


def sampling(chat: Chat, request: int = -1) -> dict[str, object]:
    return {name: value for name, value in chat.requests()[request].items() if name in SAMPLING}


def test_model_decides_what_nobody_set(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Hello")
    assert chat.requests()[0] == {
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert chat.page.evaluate("fake.engine.loads.map(({ policy }) => policy)") == [
        "truncate-oldest"
    ]


@pytest.mark.parametrize(
    ("named", "placeholders", "said"),
    [
        ({}, ("0.7", "0.9", "0.05"), "top P 0.9, min P 0.05, for chats"),
        ({"top_k": 20}, ("0.7", "0.9", "0.05"), "temperature 0.7, top P 0.9"),
        ({"min_p": 0.1}, ("1", "1", "0.1"), "min P 0.1, as the model"),
        (None, ("Model\u2019s default",) * 3, "once the model is ready"),
    ],
)
def test_what_is_left_empty_is_said_and_asked_for(
    open_chat: OpenChat, named: dict[str, float] | None, placeholders: tuple[str, ...], said: str
):
    chat = open_chat({"sampling": named})
    chat.ask("Hello")
    of_chats = {"temperature": 0.7, "top_p": 0.9, "min_p": 0.05}
    assert sampling(chat) == (of_chats if placeholders[0] == "0.7" else {})
    dialog = open_settings(chat)
    for label, placeholder in zip(("Temperature", "Top P", "Min P"), placeholders, strict=True):
        expect(dialog.get_by_label(label)).to_have_attribute("placeholder", placeholder)
    expect(dialog).to_contain_text(said)
    dialog.get_by_role("button", name="Cancel").click()
    save(chat, Top_P="0.5")
    chat.ask("Again")
    changed = {**of_chats, "top_p": 0.5} if placeholders[0] == "0.7" else {"top_p": 0.5}
    assert sampling(chat) == changed


def test_all_settings_are_sent_and_kept_with_their_chat(open_chat: OpenChat):
    chat = open_chat()
    fields = {
        "Temperature": "0",
        "Top_P": "0.35",
        "Min_P": "0",
        "Longest_answer": "17",
        "Seed": "0",
    }
    save(chat, System_prompt="  Be brief. ", **fields)
    wanted = {"temperature": 0, "top_p": 0.35, "min_p": 0, "max_tokens": 17, "seed": 0}
    chat.ask("Hello")
    assert sampling(chat) == wanted
    assert chat.requests()[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    chat.reload()
    chat.ask("Again")
    assert sampling(chat) == wanted
    assert [m["role"] for m in chat.requests()[0]["messages"]][:2] == ["system", "user"]
    dialog = open_settings(chat)
    expect(dialog.get_by_label("System prompt")).to_have_value("Be brief.")
    expect(dialog.get_by_label("Top P")).to_have_value("0.35")
    dialog.get_by_role("button", name="Cancel").click()
    # They were this chat's alone.
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.questions).to_have_count(0)
    chat.ask("Hello")
    assert sampling(chat) == {}


def test_settings_change_from_the_next_answer_on(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Hello")
    save(chat, Seed="3")
    chat.reload()
    chat.ask("Again")
    assert sampling(chat) == {"seed": 3}


def test_defaults_are_for_new_chats_of_later_visits_too(open_chat: OpenChat):
    chat = open_chat()
    save(chat, Seed="3", default=True)
    save(chat, Seed="4")
    chat.ask("Hello")
    assert sampling(chat) == {"seed": 4}
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.questions).to_have_count(0)
    chat.reload()
    chat.ask("Hello")
    assert sampling(chat) == {"seed": 3}


def test_reset_and_cancel(open_chat: OpenChat):
    chat = open_chat()
    save(chat, Seed="3", System_prompt="Be brief.")
    dialog = open_settings(chat)
    dialog.get_by_label("Seed").fill("5")
    dialog.get_by_role("button", name="Cancel").click()
    open_settings(chat).get_by_label("Seed").fill("6")
    chat.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(chat.page.get_by_role("button", name="Settings", exact=True)).to_be_focused()
    open_settings(chat)
    expect(dialog.get_by_label("Seed")).to_have_value("3")
    dialog.get_by_role("button", name="Reset").click()
    for label in ("Seed", "System prompt"):
        expect(dialog.get_by_label(label)).to_have_value("")
    dialog.get_by_role("button", name="Save").click()
    chat.ask("Hello")
    assert sampling(chat) == {} and len(chat.requests()[0]["messages"]) == 1


@pytest.mark.parametrize(
    ("label", "name", "good", "bad"),
    [
        ("Temperature", "temperature", ["0", "2"], ["-0.1", "2.1"]),
        ("Top P", "top_p", ["0.01", "1"], ["0", "1.01", "-1"]),
        ("Min P", "min_p", ["0", "1"], ["-0.01", "1.01"]),
        ("Longest answer", "max_tokens", ["1", "1000000"], ["0", "1.5", "1000001"]),
        ("Seed", "seed", ["0", "2147483647"], ["-1", "0.5", "2147483648"]),
    ],
)
def test_bounds(open_chat: OpenChat, label: str, name: str, good: list[str], bad: list[str]):
    chat = open_chat()
    dialog = open_settings(chat)
    field = dialog.get_by_label(label)
    for value in bad:
        field.fill(value)
        dialog.get_by_role("button", name="Save").click()
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        expect(dialog.locator(".wrong:visible")).to_have_count(1)
        # Mended, it is no longer marked.
        field.fill("")
        dialog.get_by_role("button", name="Save").click()
        expect(dialog).to_be_hidden()
        open_settings(chat)
    for count, value in enumerate(good):
        field.fill(value)
        dialog.get_by_role("button", name="Save").click()
        expect(dialog).to_be_hidden()
        chat.ask("Hello")
        assert sampling(chat, count) == {name: float(value)}
        open_settings(chat)


def test_text_that_is_no_number_is_not_taken_for_nothing(open_chat: OpenChat):
    chat = open_chat()
    dialog = open_settings(chat)
    dialog.get_by_label("Seed").press_sequentially("1e")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator(".wrong:visible")).to_have_text(
        "Enter a whole number from 0 to 2147483647, or leave it empty."
    )


def test_damaged_defaults_lose_only_what_is_damaged(open_chat: OpenChat):
    stored = {"seed": 7, "topP": 9, "temperature": "hot", "contextPolicy": "x", "other": 1}
    value = json.dumps(json.dumps(stored))
    chat = open_chat(init=f"localStorage.setItem('mlc-edge.settings', {value});")
    chat.ask("Hello")
    assert sampling(chat) == {"seed": 7}
    chat = open_chat(init="localStorage.setItem('mlc-edge.settings', '{');")
    chat.ask("Hello")
    assert sampling(chat) == {}


def test_policy_for_long_conversations_loads_the_model_anew(open_chat: OpenChat):
    chat = open_chat()
    dialog = open_settings(chat)
    dialog.get_by_label("Long conversations").select_option("Stop with an error")
    dialog.get_by_role("button", name="Save").click()
    chat.ask("Hello")
    policies = "fake.engine.loads.map(({ policy }) => policy)"
    assert chat.page.evaluate(policies) == ["truncate-oldest", "error"]
    chat.ask("Again")
    assert len(chat.page.evaluate(policies)) == 2
    chat.reload()
    assert chat.page.evaluate(policies) == ["error"]


def test_browser_that_keeps_nothing_takes_settings_all_the_same(open_chat: OpenChat):
    denied = "{ get() { throw new DOMException('no', 'SecurityError'); } }"
    blocked = f"Object.defineProperty(window, 'localStorage', {denied});"
    chat = open_chat(init=blocked)
    save(chat, Seed="3", default=True)
    chat.ask("Hello")
    assert sampling(chat) == {"seed": 3}
    theme = chat.page.get_by_role("button", name="Theme: system")
    theme.click()
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "light")
