"""Code is coloured without touching what shows it."""

import re

from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat
from tests.page.test_history import new_chat

SCRIPT = re.compile(r"/dist/highlight-\w+\.js$")
PYTHON = '# all\nclass A: pass\ndef f(x):\n    return "<b>&amp;" + str(1.5)\n'
COLOURED = """() => Object.fromEntries([...CSS.highlights].filter(([, all]) => all.size).map(
  ([name, all]) => [name.slice(5), [...all].map(({ startContainer: text, startOffset, endOffset }) =>
    text.data.slice(startOffset, endOffset)).sort()]))"""
FOUND = {
    "comment": ["# all"],
    "keyword": ["class", "def", "pass", "return"],
    "function": ["f"],
    "string": ['"<b>&amp;"'],
    "type": ["A", "str"],
    "number": ["1.5"],
}


def wait_for_colours(chat: Chat, found: dict[str, list[str]]) -> None:
    chat.page.wait_for_function(f"n => Object.keys(({COLOURED})()).length >= n", arg=len(found))
    assert chat.page.evaluate(COLOURED) == found


def test_code_is_coloured_and_stays_one_text(open_chat: OpenChat):
    chat = open_chat({"answers": [f"```python\n{PYTHON}```\n\n```\nif x: pass\n```"]})
    chat.ask("Code?")
    wait_for_colours(chat, FOUND)
    code = chat.texts.last.locator("code").first
    assert code.evaluate("code => [code.childNodes.length, code.textContent]") == [1, PYTHON]


def test_code_is_coloured_once_it_stands(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    requested: list[str] = []
    chat.page.on("request", lambda request: requested.append(request.url))
    chat.send("Code?")
    chat.engine("push", f"```python\n{PYTHON}")
    expect(chat.texts.last).to_contain_text("1.5")
    assert not [url for url in requested if SCRIPT.search(url)]
    code = chat.texts.last.locator("code").first
    code.evaluate("code => getSelection().setBaseAndExtent(code.firstChild, 0, code.firstChild, 5)")
    chat.engine("push", "```\nSo")
    wait_for_colours(chat, FOUND)
    chat.engine("push", " it is.\n\n```js\nlet")
    chat.engine("finish")
    chat.page.wait_for_function(f"() => ({COLOURED})().keyword?.length === 5")
    assert chat.page.evaluate("String(getSelection())") == "# all"


def test_colours_go_with_their_code(open_chat: OpenChat):
    chat = open_chat({"answers": [f"```python\n{PYTHON}```", "```js\nlet a\n```"]})
    chat.ask("Code?")
    wait_for_colours(chat, FOUND)
    new_chat(chat)
    chat.ask("Other code?")
    chat.page.wait_for_function(f"() => ({COLOURED})().keyword?.length === 1")
    assert chat.page.evaluate(COLOURED) == {"keyword": ["let"]}


def test_every_version_of_an_answer_has_its_colours(open_chat: OpenChat):
    chat = open_chat({"answers": ["```js\nlet a\n```", "```js\nconst b\n```"]})
    chat.ask("Code?")
    chat.page.wait_for_function(f"() => ({COLOURED})().keyword?.[0] === 'let'")
    chat.page.get_by_role("button", name="Regenerate").click()
    chat.page.wait_for_function(f"() => ({COLOURED})().keyword?.join() === 'const'")
    chat.page.get_by_role("button", name="Earlier version").click()
    chat.page.wait_for_function(f"() => ({COLOURED})().keyword?.join() === 'let'")


def test_long_code_and_unknown_languages_stay_plain(open_chat: OpenChat):
    long = "x = 1\n" * 6_000
    chat = open_chat({"answers": [f"```py\n{long}```\n\n```nobody\nif\n```\n\n```js\nlet a\n```"]})
    chat.ask("Code?")
    chat.page.wait_for_function(f"() => ({COLOURED})().keyword?.length === 1")
    assert chat.page.evaluate(COLOURED) == {"keyword": ["let"]}
