"""Formulas: found in what was written, typeset by a script that comes with the first of them."""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.page.conftest import Chat, OpenChat

MATH_SCRIPT = re.compile(r"/dist/math-\w+\.js$")
HOSTILE = r"""
$\href{javascript:window.hacked=1}{click}$ $\includegraphics{https://example.org/pixel.png}$
$\htmlData{x=1}{a} \htmlId{message}{b} \htmlStyle{position:fixed}{c}$ $\url{https://example.org}$
$\def\a{\a\a}\a$ $\rule{9999em}{9999em}$ $\text{<img src=x onerror=window.hacked=2>}$
"""


def formulas(chat: Chat) -> Locator:
    return chat.texts.last.locator(".math")


def answered(open_chat: OpenChat, markdown: str) -> Chat:
    chat = open_chat({"answers": [markdown]}, permissions=["clipboard-read", "clipboard-write"])
    chat.ask("Write.")
    return chat


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("So $x^2$.", ["$x^2$"]),
        ("$5 and $10, $ x$, $x $", []),
        ("From $5-$10 or $a$1", []),
        (r"It is \$5 and 3\$.", []),
        (r"\(a_1 * b_2 * c\) and \[d\]", [r"\(a_1 * b_2 * c\)", r"\[d\]"]),
        (r"\\(no\\) and \\[no\\]", []),
        ("`$x$` and $`y`$", []),
        ("```\n$x$\n$$\ny\n$$\n```", []),
        ("    $x$\n", []),
        ("$$\na\n- b\n+ c\n# d\n$$", ["$$\na\n- b\n+ c\n# d\n$$"]),
        ("Text\n$$a$$\nmore $$b$$ text", ["$$a$$", "$$b$$"]),
        ("$$\na\n\nb\n$$", []),
        (r"- one $\frac{a}{b}$" "\n- two\n\n  $$c$$", [r"$\frac{a}{b}$", "$$c$$"]),
        (r"$\text{a \$ b}$ and $a\\b$", [r"$\text{a \$ b}$", r"$a\\b$"]),
        ("**bold $a*b*c$ bold** *soft $x_1*y_2$ soft*", ["$a*b*c$", "$x_1*y_2$"]),
        ("| $a$ | b |\n|---|---|\n| 1 | $c_d$ |", ["$a$", "$c_d$"]),
    ],
)
def test_what_is_a_formula(page_to_render: Chat, markdown: str, found: list[str]):
    shown = page_to_render.page.evaluate(
        """async (text) => {
          const view = document.createElement("div");
          view.innerHTML = (await fake.streamed(text)).at(-1).grown;
          return [...view.querySelectorAll(".math")].map(({ textContent }) => textContent);
        }""",
        markdown,
    )
    assert shown == found


def test_formulas_are_typeset_and_can_be_read_aloud(open_chat: OpenChat):
    chat = answered(open_chat, "So $a^2$ and\n\n$$\\frac{1}{2}$$\n\nbut $\\frac{$ not.")
    expect(chat.texts.last.locator(".katex")).to_have_count(2)
    expect(chat.texts.last.locator("math msup")).to_have_count(1)
    expect(chat.texts.last.locator("math[display=block] mfrac")).to_have_count(1)
    expect(formulas(chat).last).to_have_text("$\\frac{$")
    width = formulas(chat).nth(1).locator(".katex-display").bounding_box()
    assert width and width["width"] > 300
    chat.page.wait_for_function("document.fonts.check('1em KaTeX_Main')")


def test_hostile_formulas_show_and_do_nothing(open_chat: OpenChat):
    chat = open_chat({"answers": [HOSTILE]})
    requested: list[str] = []
    chat.page.on("request", lambda request: requested.append(request.url))
    chat.ask("Attack me.")
    expect(formulas(chat).locator(".katex").first).to_be_attached()
    expect(formulas(chat).last.locator(".katex")).to_be_attached()
    expect(formulas(chat).locator("a, img, [id], [data-x]")).to_have_count(0)
    assert chat.page.evaluate("window.hacked") is None
    assert not [url for url in requested if "example.org" in url]
    height = chat.texts.last.bounding_box()
    assert height and height["height"] < 3_000


def test_a_megabyte_of_tex_is_text(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Write.")
    for beginning in ("$$", r"\[", "$a $b ", r"\(\("):
        chat.engine("push", beginning + r"\frac{a}{b} + " * 20_000 + "\n\n")
    chat.engine("push", "$c$\n\nend")
    chat.engine("finish")
    chat.expect_engine("ready")
    expect(chat.texts.last.locator(".katex")).to_have_count(1)


def test_growing_answer_keeps_typeset_formulas(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.send("Write.")
    chat.engine("push", "- so $a^2$")
    expect(formulas(chat)).to_have_text("$a^2$")
    chat.engine("push", " and $b")
    expect(chat.texts.last.locator(".katex")).to_have_count(1)
    formulas(chat).evaluate("math => { math.marked = true; }")
    chat.engine("push", "$ more\n- $c$ end")
    expect(chat.texts.last.locator(".katex")).to_have_count(3)
    assert formulas(chat).first.evaluate("math => math.marked") is True
    chat.engine("finish")
    chat.expect_engine("ready")
    assert formulas(chat).first.evaluate("math => math.marked") is True


def test_what_is_copied_is_what_was_written(open_chat: OpenChat):
    chat = answered(open_chat, "One $a^2$ two\n\n$$\\frac{1}{2}$$\n\nthree.")
    expect(chat.texts.last.locator(".katex")).to_have_count(2)
    copied = []
    for select in (
        "getSelection().selectAllChildren(body)",
        "getSelection().setBaseAndExtent(body.querySelector('p').firstChild, 0, "
        "body.querySelector('.katex-html .mord:not(:has(*))').firstChild, 1)",
        "getSelection().selectAllChildren(body.querySelector('.katex-display'))",
        "getSelection().setBaseAndExtent(body.querySelector('.katex-html .mord:not(:has(*))').firstChild, "
        "0, body.querySelector('p').lastChild, 4)",
        "getSelection().selectAllChildren(body.querySelector('p:last-child'))",
    ):
        chat.texts.last.evaluate(f"body => {select}")
        chat.page.keyboard.press("Control+c")
        copied.append(chat.page.evaluate("navigator.clipboard.readText()").split())
    assert copied[0] == ["One", "$a^2$", "two", "$$\\frac{1}{2}$$", "three."]
    assert copied[1:] == [["One", "$a^2$"], ["$$\\frac{1}{2}$$"], ["$a^2$", "two"], ["three."]]
    expect(chat.texts.last.locator(".as-written")).to_have_count(0)
    chat.page.get_by_role("button", name="Copy answer").click()
    expect(chat.page.get_by_role("region", name="Notifications")).to_contain_text("copied")
    text = "One $a^2$ two\n\n$$\\frac{1}{2}$$\n\nthree."
    assert chat.page.evaluate("navigator.clipboard.readText()") == text


def test_without_the_script_formulas_stay_as_written(open_chat: OpenChat):
    chat = open_chat({"answers": ["So $a^2$.", "And $b$."]})
    chat.page.route(MATH_SCRIPT, lambda route: route.abort())
    with chat.page.expect_request(MATH_SCRIPT):
        chat.ask("Write.")
    chat.ask("More.")
    expect(chat.answers.locator(".math")).to_have_text(["$a^2$", "$b$"])
