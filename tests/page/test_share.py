"""A conversation in a link: who opens it sees it, and nothing of what they keep is touched."""

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_archive import take
from tests.page.test_conversations import choose
from tests.page.test_history import kept, kept_texts, new_chat, titles
from tests.page.test_redo import edit
from tests.page.test_temporary import keep

NOTHING = {"conversations": [], "messages": []}
CLIPBOARD = """
const writeText = async (text) => { globalThis.copied = text; };
Object.defineProperty(navigator, "clipboard", { value: { writeText } });
"""
SHARE = """
navigator.share = async (what) => { globalThis.handed = what; };
"""


def link(chat: Chat, title: str) -> str:
    choose(chat, title, "Share")
    chat.page.get_by_role("button", name="Copy link").click()
    expect(chat.page.get_by_role("region", name="Notifications")).to_contain_text("Link copied.")
    return chat.page.evaluate("copied")


def inside(url: str) -> dict[str, Any]:
    packed = url.split("#share=")[1]
    deflated = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    [conversation] = json.loads(zlib.decompress(deflated, wbits=-15))["conversations"]
    return conversation


def packed(text: str) -> str:
    deflate = zlib.compressobj(9, wbits=-15)
    deflated = deflate.compress(text.encode()) + deflate.flush()
    return base64.urlsafe_b64encode(deflated).decode().rstrip("=")


def archive(**change: Any) -> str:
    message = {"id": "b", "parent": None, "role": "user", "content": "Hi"}
    conversation = {"id": "a", "title": "A", "messages": [message], **change}
    file = {"format": "mlc-edge-conversations", "version": 2, "conversations": [conversation]}
    return json.dumps(file)


def open_link(chat: Chat, fragment: str) -> None:
    chat.page.evaluate("(hash) => { location.hash = hash; }", fragment)


def shared_chat(open_chat: OpenChat) -> tuple[Chat, str]:
    chat = open_chat({"answers": ["One.", "Other."]}, init=CLIPBOARD)
    chat.ask("Ünïcode?")
    edit(chat, "Edited? 🙂")
    expect(chat.texts).to_have_text(["Edited? 🙂", "Other."])
    chat.expect_engine("ready")
    return chat, link(chat, "Edited? 🙂")


def test_the_branch_that_is_shown_is_in_the_link(open_chat: OpenChat):
    chat, url = shared_chat(open_chat)
    assert url.startswith(chat.address.split("#")[0] + "#share=")
    conversation = inside(url)
    assert [m["content"] for m in conversation["messages"]] == ["Edited? 🙂", "Other."]
    expect(chat.page.get_by_role("button", name="Options for Edited? 🙂")).to_be_focused()


def test_whoever_opens_it_sees_it_and_may_keep_it(open_chat: OpenChat):
    _, url = shared_chat(open_chat)
    other = open_chat({"answers": ["Mine.", "More."]})
    other.ask("Mine?")
    before = kept(other)
    open_link(other, url.split("#")[1])
    banner = other.page.get_by_role("region", name="Temporary chat")
    expect(banner).to_contain_text("Shared with you: “Edited? 🙂”")
    expect(other.texts).to_have_text(["Edited? 🙂", "Other."])
    expect(other.page).to_have_title("Temporary chat · mlc-edge")
    other.ask("And?")
    assert [m["content"] for m in other.requests()[-1]["messages"]] == [
        "Edited? 🙂",
        "Other.",
        "And?",
    ]
    assert kept(other) == before
    keep(other)
    expect(other.conversations.get_by_role("link")).to_have_text(["Edited? 🙂", "Mine?"])
    other.reload()
    expect(other.texts).to_have_text(["Edited? 🙂", "Other.", "And?", "More."])


def test_it_goes_with_a_new_chat(open_chat: OpenChat):
    _, url = shared_chat(open_chat)
    other = open_chat({})
    other.page.goto(url)
    expect(other.texts).to_have_count(2)
    new_chat(other)
    expect(other.page.locator("#temporary")).to_be_hidden()
    assert kept(other) == NOTHING
    assert "share=" not in other.address


def test_ones_own_conversation_stays_as_it_is(open_chat: OpenChat):
    chat, url = shared_chat(open_chat)
    chat.ask("Later?")
    before = kept(chat)
    open_link(chat, url.split("#")[1])
    expect(chat.texts).to_have_text(["Edited? 🙂", "Other."])
    assert kept(chat) == before
    keep(chat)
    expect(chat.conversations.get_by_role("link")).to_have_text(["Edited? 🙂", "Edited? 🙂"])
    after = kept(chat)
    assert [m for m in after["messages"] if m in before["messages"]] == before["messages"]
    assert len({m["id"] for m in after["messages"]}) == len(before["messages"]) + 2


def test_the_system_prompt_is_shared_only_if_it_is_wanted(open_chat: OpenChat):
    chat = open_chat({"answers": ["One."]}, init=CLIPBOARD)
    chat.open_settings()
    chat.page.get_by_role("textbox", name="System prompt").fill("Be secret.")
    chat.page.get_by_role("button", name="Save").click()
    chat.ask("Hello?")
    assert inside(link(chat, "Hello?"))["settings"]["systemPrompt"] == ""
    choose(chat, "Hello?", "Share")
    chat.page.get_by_label("With the system prompt").check()
    chat.page.wait_for_function("document.getElementById('share-link').value !== copied")
    chat.page.get_by_role("button", name="Copy link").click()
    chat.page.wait_for_function("document.querySelector('dialog[open]') === null")
    assert inside(chat.page.evaluate("copied"))["settings"]["systemPrompt"] == "Be secret."


def test_where_the_system_shares_it_is_handed_the_link(open_chat: OpenChat):
    chat = open_chat({}, init=SHARE)
    chat.ask("Hello?")
    choose(chat, "Hello?", "Share")
    chat.page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    handed = chat.page.evaluate("handed")
    assert handed["title"] == "Hello?"
    assert inside(handed["url"])["messages"][0]["content"] == "Hello?"


def test_sharing_fits_a_phone_and_gives_the_focus_back(open_chat: OpenChat):
    chat = open_chat({}, init=SHARE, viewport={"width": 360, "height": 640})
    chat.ask("Hello?")
    chat.page.get_by_role("button", name="Conversations", exact=True).click()
    choose(chat, "Hello?", "Share")
    dialog = chat.page.get_by_role("dialog", name="Share chat")
    expect(dialog).to_have_accessible_description(re.compile("No server gets it"))
    expect(dialog.get_by_role("button", name="Copy link")).to_be_focused()
    assert dialog.evaluate("(it) => it.scrollWidth <= it.clientWidth")
    chat.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(chat.page.get_by_role("button", name="Options for Hello?")).to_be_focused()


def test_a_long_conversation_is_shared_as_a_file(open_chat: OpenChat):
    noise = base64.b64encode(
        bytes(i * i * 7919 % 251 ^ (i >> 3) % 256 for i in range(60_000))
    ).decode()
    text = "".join(f"{zlib.crc32(noise[i:].encode()):x}" for i in range(0, 12_000, 2))
    chat = open_chat({"answers": [text]})
    chat.ask("Long?")
    choose(chat, "Long?", "Share")
    dialog = chat.page.get_by_role("dialog", name="Share chat")
    expect(dialog).to_contain_text("too long for a link")
    expect(dialog.get_by_role("button", name="Copy link")).to_be_hidden()
    button = dialog.get_by_role("button", name="Save as file")
    expect(button).to_be_focused()
    with chat.page.expect_download() as download:
        button.click()
    other = open_chat()
    take(other, Path(download.value.path()).read_text())
    expect(other.conversations.get_by_role("link")).to_have_text(["Long?"])
    assert kept_texts(other) == ["Long?", text]


BOMB = packed('{"a": "' + "a" * 50_000_000 + '"}')
GOOD = packed(archive())


@pytest.mark.parametrize(
    ("fragment", "problem"),
    [
        ("", "damaged or incomplete"),
        ("!!!", "damaged or incomplete"),
        (GOOD[: len(GOOD) // 2], "damaged or incomplete"),
        (GOOD[:20] + "AAAA" + GOOD[24:], "damaged or incomplete"),
        (BOMB, "more than 4 MB"),
        (packed("<html>"), "holds no conversations"),
        (packed(archive(messages=[])), "holds no conversation"),
        (packed(archive(messages=[{"id": "b", "role": "user"}])), "is damaged, at message 1"),
        (packed(archive().replace('"version": 2', '"version": 9')), "This link has version 9"),
    ],
)
def test_a_link_that_is_wrong_says_so(open_chat: OpenChat, fragment: str, problem: str):
    chat = open_chat({"answers": ["One."]})
    chat.ask("Mine?")
    before = kept(chat)
    open_link(chat, f"share={fragment}")
    expect(chat.page.locator(".notice.warning")).to_contain_text(problem)
    expect(chat.texts).to_have_count(0)
    assert "share=" not in chat.address
    assert kept(chat) == before
    assert titles(chat) == ["Mine?"]


def test_nothing_but_words_is_taken_from_a_link(open_chat: OpenChat):
    chat = open_chat({"answers": ["One."]})
    hostile = "<img src=x onerror='window.hacked = 1'>"
    messages = [
        {"id": "b", "parent": "b", "role": "user", "content": hostile},
        {
            "id": "b",
            "parent": "b",
            "role": "assistant",
            "content": hostile,
            "state": "error",
            "problem": {"code": "x", "message": "Pay here.", "remedy": "Now."},
            "stats": {"promptTokens": 1, "cachedTokens": 1, "answerTokens": 1},
        },
    ]
    settings = {"temperature": 99, "maxTokens": "many", "systemPrompt": "Be brief.", "unknown": 1}
    title = f"{hostile}\n{'x' * 500}"
    open_link(
        chat,
        "share=" + packed(archive(messages=messages, settings=settings, title=title, pinned=True)),
    )
    expect(chat.texts.first).to_have_text(hostile)
    expect(chat.answers).to_have_count(1)
    expect(chat.log).not_to_contain_text("Pay here.")
    chat.ask("And?")
    request = chat.requests()[-1]
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert request.get("temperature") != 99 and "max_tokens" not in request
    keep(chat)
    expect(chat.conversations.get_by_role("link")).to_have_text([hostile])
    assert chat.page.evaluate("window.hacked") is None


SLOWLY = """() => {
  const read = Response.prototype.arrayBuffer;
  globalThis.slow = [];
  Response.prototype.arrayBuffer = async function () {
    const bytes = await read.call(this);
    if (!globalThis.isQuick) await new Promise((resolve) => slow.push(resolve));
    return bytes;
  };
}"""


def test_a_link_that_took_long_takes_no_other_ones_place(open_chat: OpenChat):
    chat = open_chat({"answers": ["One.", "Two."]}, init=CLIPBOARD)
    chat.ask("First?")
    new_chat(chat)
    chat.ask("Second?")
    chat.page.evaluate(SLOWLY)
    choose(chat, "First?", "Share")
    chat.page.wait_for_function("() => slow.length === 1")
    chat.page.keyboard.press("Escape")
    chat.page.evaluate("() => { globalThis.isQuick = true; }")
    assert inside(link(chat, "Second?"))["title"] == "Second?"
    choose(chat, "Second?", "Share")
    field = chat.page.locator("#share-link")
    expect(field).to_have_value(re.compile("#share="))
    chat.page.evaluate("() => Promise.all(slow.map((go) => go()))")
    assert inside(field.input_value())["title"] == "Second?"


def test_a_link_brings_no_settings_that_nobody_sees(open_chat: OpenChat):
    chat = open_chat()
    settings = {"systemPrompt": "Be brief.", "temperature": 2, "maxTokens": 3, "seed": 1}
    open_link(chat, f"share={packed(archive(settings=settings))}")
    expect(chat.page.locator("#temporary")).to_contain_text("comes with a system prompt")
    chat.ask("Hello?")
    asked = chat.requests()[-1]
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert not asked.keys() & {"max_tokens", "seed"} and asked.get("temperature") != 2


def test_a_link_waits_for_the_script_that_reads_it(open_chat: OpenChat):
    chat = open_chat()
    chat.page.route("**/share-*.js", lambda route: route.abort())
    open_link(chat, f"share={packed(archive())}")
    notice = chat.page.locator(".notice.warning")
    expect(notice).to_contain_text("be loaded: check the connection")
    assert "#share=" in chat.address
    chat.page.unroute("**/share-*.js")
    notice.get_by_role("button", name="Try again").click()
    expect(chat.texts).to_have_text(["Hi"])
    expect(notice).to_have_count(0)
