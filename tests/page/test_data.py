"""JSON and calls of tools in answers."""

import json

import pytest
from playwright.sync_api import expect

from tests.page.conftest import OpenChat

CITIES = {"cities": [{"name": 'Paris "}', "size": 2.1}, {"name": "Rome", "size": 2.8}]}
CALL = {"name": "get_weather", "arguments": {"city": "Paris", "days": [1, 2]}}


def test_an_answer_of_json_is_indented_once_it_is_complete(open_chat: OpenChat):
    text = json.dumps(CITIES)
    chat = open_chat({"manualAnswer": True})
    chat.send("Cities?")
    chat.engine("push", text[:-1])
    code = chat.page.get_by_role("group", name="Code, json")
    expect(code).to_have_text(text[:-1], use_inner_text=True)
    chat.engine("push", "}")
    expect(code).to_have_text(json.dumps(CITIES, indent=2), use_inner_text=True)
    chat.engine("push", "\n\nThese are **all**.")
    chat.engine("finish")
    expect(chat.texts.last.locator("strong")).to_have_text("all")
    expect(code).to_have_text(json.dumps(CITIES, indent=2), use_inner_text=True)


@pytest.mark.parametrize("text", ["{a} or [b]", '"{"', 'It is\n\n{"a": 1}', "[{x}]", "[link] {"])
def test_what_only_looks_like_json_is_text(open_chat: OpenChat, text: str):
    chat = open_chat({"answers": [text]})
    chat.ask("What?")
    expect(chat.texts.last.locator("pre")).to_have_count(0)


def test_calls_of_tools_are_named(open_chat: OpenChat):
    answer = (
        f"Let me see.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>\n"
        "<tool_call>{broken <b>x</b></tool_call>\nDone."
    )
    chat = open_chat({"answers": [answer]})
    chat.ask("Weather?")
    call = chat.page.get_by_role("group", name="Tool call: get_weather")
    expect(call).to_have_text(json.dumps(CALL["arguments"], indent=2), use_inner_text=True)
    broken = chat.page.get_by_role("group", name="Tool call: …")
    expect(broken).to_have_text("{broken <b>x</b>", use_inner_text=True)
    expect(chat.texts.last.locator("p")).to_have_text(["Let me see.", "Done."])
    expect(chat.texts.last.locator(".code-head").first).to_contain_text("Tool call: get_weather")


def test_a_call_shows_its_name_while_it_is_written(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Weather?")
    chat.engine("push", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par')
    call = chat.page.get_by_role("group", name="Tool call: get_weather")
    expect(call).to_contain_text("Par")
    chat.engine("push", 'is"}}\n</tool_')
    expect(call).to_contain_text("Paris")
    expect(call).not_to_contain_text("</")
    chat.engine("push", "call>")
    expect(call).to_have_text('{\n  "city": "Paris"\n}', use_inner_text=True)


def test_json_that_is_nested_deeply_is_not_indented(open_chat: OpenChat):
    deep = '{"a":' + "[" * 2_000 + "]" * 2_000 + "}"
    call = f'<tool_call>\n{{"name": "f", "arguments": {deep}}}\n</tool_call>'
    chat = open_chat({"answers": [deep, call]})
    chat.ask("One?")
    expect(chat.texts.last).to_contain_text(deep)
    chat.ask("Two?")
    expect(chat.texts.last).to_contain_text(deep)
