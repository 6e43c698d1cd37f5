"""Answers while they grow: at each moment what the whole so far would show, and what stands stays."""

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat

CODE = "```python\nfor n in range(3):\n    print(n)\n```"
CASES = {
    "paragraphs": "One\ntwo **bold** and *soft*.\n\nThree `code` ~~gone~~.",
    "headings": "# One\n\ntext\n## Two\nSetext\n===\n\nnot one\n---\nend",
    "tight list": "Do:\n- one\n- two\n  - deeper\n- three\n\nDone.",
    "loose list": "1. one\n\n2. two\n\n   more of two\n\n3. three\n\nEnd.",
    "list from a number": "3. three\n4. four\n\n```\ncode\n```\n\n5. five\n6. six",
    "code in a list": "1. do\n\n   ```sh\n   ls\n   ```\n\n2. done\n",
    "two lists": "- a\n- b\n\n* c\n* d\n\n1) e\n2) f",
    "tasks": "- [x] done\n- [ ] open",
    "table": "| left | right |\n|:-----|------:|\n| a b  | 1 \\| 2 |\n| `c|d` | x |\n\nafter",
    "table without an end": "a | b\n--|--\n1 | 2",
    "fence": f"Look:\n\n{CODE}\n\nand\n\n~~~\nplain\n~~~",
    "open fence": "Look:\n```js\nconst a = `x`;\n\n\nconst b = 2;",
    "fence in a fence": "````md\n```js\nx\n```\n````\nend",
    "indented code": "Code:\n\n    a\n\n    b\n\nend",
    "quote": "> one\n> two\nlazy\n>\n> - a\n> - b\n\nend",
    "reference": "See [it][1], [that], [none].\n\nMore.\n\n- x\n\n[1]: https://a\n[that]: <https://b> 'T'\n",
    "reference before": "[1]: https://a.example\n\nOne.\n\nTwo.\n\nThree [it][1].",
    "reference in a list": "- [a][x]\n- b\n\ntext\n\nmore\n\n[x]: https://a.example",
    "html": "<b>bold</b> and\n\n<div>\nblock\n\n</div>\nafter",
    "rule": "a\n\n---\n\n***\nb",
    "line ends": "a\r\nb\r\n\r\n- c\r\n- d\r\n\r\ne",
    "escapes": "1\\. no list\n\\# no title\n\\*plain\\* &amp; &lt;",
    "year on a line of its own": "Back in the year\n1969. It was good\n- Moon\n\nDone.\n",
    "list that belongs to a paragraph": "See:\n2. two\n- b\n- c\n\nend",
    "right to left": "\u0645\u0631\u062d\u0628\u0627\n\n- \u0648\u0627\u062d\u062f\n\nEnglish",
    "emoji": "Hi \U0001f44b\U0001f3fd **\U0001f468\u200d\U0001f469\u200d\U0001f467**",
}


@pytest.fixture(scope="module")
def chat(browser, host_url):
    """A page to render in, that tests leave as it is."""
    page = browser.new_page()
    page.route("**/bundles/index.json", lambda route: route.fulfill(json={"bundles": []}))
    page.goto(host_url)
    page.wait_for_function("() => globalThis.fake !== undefined")
    yield Chat(page)
    page.close()


@pytest.mark.parametrize("name", CASES)
def test_streaming_shows_what_the_whole_shows(chat: Chat, name: str):
    shown = chat.page.evaluate("text => fake.streamed(text)", CASES[name])
    assert len(shown) == len(CASES[name])
    for at, state in enumerate(shown):
        assert state["grown"] == state["whole"], CASES[name][: at + 1]


def test_all_of_them_as_one_answer(chat: Chat):
    text = "\n\n".join(text for name, text in CASES.items() if name != "open fence")
    shown = chat.page.evaluate("text => fake.streamed(text).slice(-1)", text)
    assert shown[0]["grown"] == shown[0]["whole"]


def ask(open_chat: OpenChat, beginning: str) -> Chat:
    chat = open_chat({"manualAnswer": True}, viewport={"width": 900, "height": 600})
    chat.box.fill("Write.")
    chat.send_button.click()
    chat.engine("push", beginning)
    return chat


def test_code_that_grows_keeps_scroll_selection_and_focus(open_chat: OpenChat):
    chat = ask(open_chat, "Look:\n\n```python\n" + "wide = " + "1 + " * 200 + "0\n")
    code = chat.texts.last.locator("pre")
    expect(code).to_contain_text("wide")
    code.evaluate("""pre => {
      pre.marked = true;
      pre.scrollLeft = 120;
      pre.focus();
      const text = pre.querySelector("code").firstChild;
      getSelection().setBaseAndExtent(text, 0, text, 4);
    }""")
    for piece in ("print(", "wide)\n", "``", "`\n\nThat is ", "all."):
        chat.engine("push", piece)
        expect(chat.texts.last).to_contain_text(piece.strip().strip("`") or "print(wide)")
    assert code.evaluate("pre => [pre.marked, pre.scrollLeft]") == [True, 120]
    expect(code).to_be_focused()
    assert chat.page.evaluate("String(getSelection())") == "wide"
    expect(code).to_contain_text("print(wide)")
    expect(code).not_to_contain_text("`")


def test_the_end_stays_in_sight_while_a_shorter_answer_grows(open_chat: OpenChat):
    """The page gets shorter and longer again before the browser tells that it has scrolled."""
    long = "\n\n".join(f"Paragraph {n}." for n in range(40))
    chat = open_chat({"answers": [long, long]}, viewport={"width": 900, "height": 600})
    chat.ask("Write.")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.page.get_by_role("group", name="Version")).to_have_count(1)
    expect(chat.page.get_by_role("button", name="Latest")).to_be_hidden()
    expect(chat.texts.last.locator("p").last).to_be_in_viewport()
