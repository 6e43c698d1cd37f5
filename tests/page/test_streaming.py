"""Answers while they grow: at each moment what the whole so far would show, and what stands stays."""

import random

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Chat, OpenChat

CODE = "```python\nfor n in range(3):\n    print(n)\n```"
CASES = {
    "paragraphs": "One\ntwo **bold** and *soft*.\n\nThree `code` ~~gone~~.",
    "headings": "# One\n\ntext\n## Two\nSetext\n===\n\nnot one\n---\nend",
    "tight list": "Do:\n- one\n- two\n  - deeper\n- three\n\nDone.",
    "list that gets loose": "- a\n- b\n- c\n- d\n\n- e\n",
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
    "formulas": "So $a_1 + b$ and \\(c_2\\), *soft $x*y$ on* $5 and $10, $ 3$ a$ `$x$` $`y`$ $6$7.\n",
    "display formulas": "- $g$\n\n  $$h$$\n\nSee:\n$$\na\n+ b\n$$\nthen \\[d \\\\[2pt]\n= e\\] and $$f$$.",
    "formula without an end": "$$\na\n\n- b\n\nc $$ \\[ d\n\ne \\] \\(f",
    "JSON": '{"a": [1, {"b": "}\\\\" }"}]}\n\nIt *is*.\n\n- so\n\nend\n\n{"no": 1}',
    "JSON without an end": '[ {"a": "x\n\n- b\n\n1. c\n\nd',
    "no JSON": '{a} and [{b}]\n\n{"c": 1}',
    "tool calls": 'I *call*:\n<tool_call>\n{"name": "f", "arguments": {"x": "<b>"}}\n</tool_call>\n'
    '<tool_call>{"name": "g", "arguments": {}}</tool_call>\n\nDone.\n\n<tool_call>\n{"name',
    "year on a line of its own": "Back in the year\n1969. It was good\n- Moon\n\nDone.\n",
    "list that belongs to a paragraph": "See:\n2. two\n- b\n- c\n\nend",
    "right to left": "\u0645\u0631\u062d\u0628\u0627\n\n- \u0648\u0627\u062d\u062f\n\nEnglish",
    "emoji": "Hi \U0001f44b\U0001f3fd **\U0001f468\u200d\U0001f469\u200d\U0001f467**",
}

PIECES = [
    *("text ", "line  \n", "\n", "\n\n", "\t", "\r\n", "\\", "&amp; ", "\u0633\u0644\u0627\u0645 "),
    *("# Title\n", "## H\n\n", "---\n", "===\n", "* * *\n", "> quote\n", ">> inner\n"),
    *("**bold** ", "*it", "~~gone~~ ", "`code` ", "```\n", "```js\n", "~~~\n", "    indented\n"),
    *("1. one\n", "2. two\n", "10) ten\n", "- item\n", "  - nested\n", "- [ ] to do\n", "   ```\n"),
    *(
        "| a | b |\n",
        "|---|:-:|\n",
        "| 1 | 2 |\n",
        "<div>\n",
        "</div>\n",
        "<kbd>",
        "<!-- c\n",
        "-->\n",
    ),
    *("$a_1$ ", "$$", "$$\n", "$", "\\(b\\) ", "\\[", "\\]\n", "5"),
    *('{"a": 1', '}"', '[{"', "<tool_call>\n", "</tool_call>\n"),
    *("[x](https://x.example) ", "[ref] ", "[ref]: https://a.example 'T'\n", "www.w.example "),
]


@pytest.mark.parametrize("name", CASES)
def test_streaming_shows_what_the_whole_shows(page_to_render: Chat, name: str):
    shown = page_to_render.page.evaluate("text => fake.streamed(text)", CASES[name])
    assert len(shown) == len(CASES[name])
    for at, state in enumerate(shown):
        assert state["grown"] == state["whole"], CASES[name][: at + 1]


@pytest.mark.parametrize("seed", [6, 9, 11])
def test_streaming_shows_what_the_whole_shows_whatever_is_written(page_to_render: Chat, seed: int):
    pick = random.Random(seed)
    for _ in range(24):
        text = "".join(pick.choices(PIECES, k=pick.randint(3, 14)))
        differs = (
            "async text => (await fake.streamed(text)).find(({ grown, whole }) => grown !== whole)"
            " ?? null"
        )
        assert page_to_render.page.evaluate(differs, text) is None, text


def test_all_of_them_as_one_answer(page_to_render: Chat):
    text = "\n\n".join(text for name, text in CASES.items() if name != "open fence")
    shown = page_to_render.page.evaluate(
        "async text => (await fake.streamed(text)).slice(-1)", text
    )
    assert shown[0]["grown"] == shown[0]["whole"]


def ask(open_chat: OpenChat, beginning: str) -> Chat:
    chat = open_chat({"manualAnswer": True}, viewport={"width": 900, "height": 600})
    chat.send("Write.")
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


def test_table_that_grows_keeps_scroll_and_focus(open_chat: OpenChat):
    head = " | ".join(("wide " * 30).replace(" ", "\u00a0") for _ in range(4))
    chat = ask(open_chat, f"| {head} |\n|---|---|---|---|\n| 1 | 2 | 3 | 4 |\n")
    table = chat.texts.last.get_by_role("group", name="Table")
    expect(table.locator("td")).to_have_count(4)
    table.evaluate("table => { table.marked = true; table.scrollLeft = 150; table.focus(); }")
    for row in range(2, 5):
        chat.engine("push", f"| row {row} | **6** | 7 | 8 |\n")
        expect(table.locator("td")).to_have_count(4 * row)
    assert table.evaluate("table => [table.marked, table.scrollLeft]") == [True, 150]
    expect(table).to_be_focused()


def test_list_that_grows_keeps_items_and_selection(open_chat: OpenChat):
    chat = ask(open_chat, "- first **item**\n- second item\n- third")
    items = chat.texts.last.locator("li")
    expect(items).to_have_count(3)
    chat.page.evaluate("""() => {
      const [first, second] = document.querySelectorAll("article li");
      first.marked = second.marked = true;
      getSelection().setBaseAndExtent(first.firstChild, 0, second.firstChild, 6);
    }""")
    selected = chat.page.evaluate("String(getSelection())")
    for piece in (" one", "\n- fourth", " [link](https://a.example)\n", "\nDone."):
        chat.engine("push", piece)
    expect(chat.texts.last.locator("p")).to_have_text("Done.")
    expect(items).to_have_text(["first item", "second item", "third one", "fourth link"])
    assert items.evaluate_all("all => all.map((li) => Boolean(li.marked))")[:2] == [True, True]
    assert chat.page.evaluate("String(getSelection())") == selected


def test_code_in_a_list_keeps_scroll_and_focus_and_says_that_it_was_copied(open_chat: OpenChat):
    wide = "1 + " * 200
    chat = ask(open_chat, f"1. Do this:\n\n   ```py\n   wide = {wide}0\n")
    code = chat.texts.last.locator("pre")
    expect(code).to_contain_text("wide")
    code.evaluate("pre => { pre.scrollLeft = 120; pre.focus(); }")
    copy = chat.texts.last.locator("[data-copy-code]")
    copy.evaluate("copy => { copy.lastChild.textContent = 'Copied'; }")
    chat.engine("push", "   print(wide)\n")
    expect(code).to_contain_text("print(wide)")
    assert code.evaluate("pre => pre.scrollLeft") == 120
    expect(code).to_be_focused()
    expect(copy).to_contain_text("Copied")


def test_the_end_stays_in_sight_while_a_shorter_answer_grows(open_chat: OpenChat):
    """The page gets shorter and longer again before the browser tells that it has scrolled."""
    long = "\n\n".join(f"Paragraph {n}." for n in range(40))
    chat = open_chat({"answers": [long, long]}, viewport={"width": 900, "height": 600})
    chat.ask("Write.")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.page.get_by_role("group", name="Version")).to_have_count(1)
    expect(chat.page.get_by_role("button", name="Latest")).to_be_hidden()
    expect(chat.texts.last.locator("p").last).to_be_in_viewport()
