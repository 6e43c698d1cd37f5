"""What a model thinks before it answers: folded, kept, and told to nobody."""

import json
import re

from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_conversations import downloaded

ANSWER = "<think>\nThe **sum** of zebras.\n</think>\n\nIt is *four*."
THOUGHT = re.compile(r"^Thought for \d+\.\d s$")


def start(open_chat: OpenChat, **options: object) -> Chat:
    chat = open_chat({"manualAnswer": True}, **options)
    chat.send("Hello")
    return chat


def test_it_is_folded_while_and_after_the_model_thinks(open_chat: OpenChat):
    chat = start(open_chat)
    chat.engine("push", "<thi")
    expect(chat.answers.last).to_contain_text("Thinking …")
    chat.engine("push", "nk>The **sum**")
    summary = chat.answers.last.locator(".thinking summary")
    expect(summary).to_have_text(re.compile(r"^Thinking … \d+ s$"))
    thought = chat.answers.last.locator(".thinking .prose")
    expect(thought).to_be_hidden()
    assert thought.inner_html() == ""
    summary.click()
    expect(thought.locator("strong")).to_have_text("sum")
    chat.engine("push", " of all")
    expect(thought).to_have_text("The sum of all")
    chat.engine("push", ".</think>It is four.")
    expect(summary).to_have_text(THOUGHT)
    expect(chat.texts.last).to_have_text("It is four.")
    chat.engine("finish")
    chat.expect_engine("ready")
    expect(thought).to_have_text("The sum of all.")
    expect(chat.answers.last.get_by_text("Thinking …")).to_have_count(0)


def test_it_is_kept_and_told_to_nobody(open_chat: OpenChat):
    chat = open_chat(
        {"answers": [ANSWER, "Yes."]}, permissions=["clipboard-read", "clipboard-write"]
    )
    chat.ask("How much?")
    chat.reload()
    expect(chat.answers.last.locator(".thinking summary")).to_have_text(THOUGHT)
    chat.page.get_by_role("button", name="Copy answer").click()
    expect(chat.page.get_by_role("region", name="Notifications")).to_contain_text("copied")
    assert chat.page.evaluate("navigator.clipboard.readText()") == "It is *four*."
    expect(chat.page.get_by_role("status").first).not_to_contain_text("zebras")
    chat.ask("Sure?")
    assert [turn["content"] for turn in chat.requests()[-1]["messages"]] == [
        "How much?",
        "It is *four*.",
        "Sure?",
    ]
    chat.page.get_by_role("searchbox").fill("zebras")
    expect(chat.page.get_by_text("No conversation has these words.")).to_be_visible()


def test_an_answer_stopped_in_thought_keeps_it(open_chat: OpenChat):
    chat = start(open_chat)
    chat.engine("push", "<think>Let me see")
    expect(chat.answers.last.locator(".thinking")).to_be_visible()
    chat.stop_button.click()
    chat.expect_engine("ready")
    expect(chat.answers.last).to_contain_text("Stopped.")
    chat.page.get_by_role("button", name="Regenerate").click()
    chat.engine("push", "Hello.")
    chat.engine("finish")
    expect(chat.texts.last).to_have_text("Hello.")
    chat.page.get_by_role("button", name="Earlier version").click()
    chat.answers.last.locator(".thinking summary").click()
    expect(chat.answers.last.locator(".thinking .prose")).to_have_text("Let me see")


def imported(open_chat: OpenChat, archive: object) -> Chat:
    chat = open_chat()
    content = json.dumps(archive).encode()
    file = {"name": "all.json", "mimeType": "application/json", "buffer": content}
    chat.page.locator("#import-file").set_input_files([file])
    return chat


def test_it_is_exported_and_taken_back(open_chat: OpenChat):
    chat = open_chat({"answers": [ANSWER]})
    chat.ask("How much?")
    text = downloaded(chat.page, chat, "How much?", "Export as Markdown")
    archive = json.loads(downloaded(chat.page, chat, "How much?", "Export as JSON"))
    assert re.search(
        r"^> <details><summary>Thought for \d\.\d s</summary>\n>\n> The \*\*sum\*\* of zebras\.\n"
        r">\n> </details>\n\nIt is \*four\*\.$",
        text,
        re.MULTILINE,
    )
    (kept,) = [m for m in archive["conversations"][0]["messages"] if m["role"] == "assistant"]
    assert kept["thinking"]["text"] == "The **sum** of zebras."
    kept["thinking"]["seconds"] = 3.24
    other = imported(open_chat, archive)
    other.page.get_by_role("link", name="How much?").click()
    expect(other.answers.last.locator(".thinking summary")).to_have_text("Thought for 3.2 s")
    kept["thinking"] = {"text": ["x"], "seconds": "3"}
    third = imported(open_chat, archive)
    third.page.get_by_role("link", name="How much?").click()
    expect(third.texts.last).to_have_text("It is four.")
    expect(third.answers.last.locator(".thinking")).to_have_count(0)
