"""What a model writes, as people see it. It is untrusted: it shows, and does nothing."""

import pytest
from playwright.sync_api import Locator, expect

from tests.page.conftest import OpenChat

HOSTILE = """
<script>window.hacked = 1</script>
<img src=x onerror="window.hacked = 2">
<svg onload="window.hacked = 3"><iframe srcdoc="<script>top.hacked = 4</script>"></iframe>
<style>body { display: none }</style> <form action="https://example.org"><input name="q"></form>

![secret](https://example.org/pixel.png) ![x](javascript:window.hacked=5)

[a](javascript:window.hacked=6) [b](data:text/html,<script>window.hacked=7</script>)
[c](vbscript:x) [d](JaVaScRiPt:window.hacked=8) [e](#other) [f](/settings) [g](blob:x)

<a href="javascript:window.hacked=9" onclick="window.hacked=10" id="message">html</a>

```"onmouseover="window.hacked=11
code
```
"""


def answer(open_chat: OpenChat, markdown: str) -> Locator:
    chat = open_chat({"answers": [markdown]})
    chat.ask("Write.")
    return chat.texts.last


def test_hostile_answer_shows_and_does_nothing(open_chat: OpenChat):
    chat = open_chat({"answers": [HOSTILE]})
    requested: list[str] = []
    chat.page.on("request", lambda request: requested.append(request.url))
    chat.ask("Attack me.")
    body = chat.texts.last
    expect(body).to_contain_text("<script>window.hacked = 1</script>")
    for tag in ("script", "img", "svg:not(.icon)", "iframe", "style", "form", "input"):
        expect(body.locator(tag)).to_have_count(0)
    assert body.locator("a").evaluate_all("all => all.map((a) => a.getAttribute('href'))") == [
        "https://example.org/pixel.png",
        *[None] * 8,
    ]
    attributes = body.evaluate(
        "body => [...body.querySelectorAll('*')].flatMap((e) => e.getAttributeNames())"
    )
    assert not {name for name in attributes if name.startswith("on") or name in ("id", "style")}
    assert chat.page.evaluate("window.hacked") is None
    assert not [url for url in requested if "example.org" in url]


@pytest.mark.parametrize(
    ("source", "href"),
    [
        ("[site](https://example.org/a?b=c)", "https://example.org/a?b=c"),
        ("[site](http://example.org 'A title')", "http://example.org"),
        ("https://example.org/bare", "https://example.org/bare"),
        ("<https://example.org/angle>", "https://example.org/angle"),
        ("[mail](mailto:ada@example.org)", "mailto:ada@example.org"),
        ("![picture](https://example.org/p.png)", "https://example.org/p.png"),
        ("See [it][1].\n\n[1]: https://example.org/reference", "https://example.org/reference"),
        ("| a |\n|---|\n| [site](https://example.org/table) |", "https://example.org/table"),
    ],
)
def test_links_open_elsewhere_and_tell_nothing(open_chat: OpenChat, source: str, href: str):
    link = answer(open_chat, source).locator("a")
    expect(link).to_have_attribute("href", href)
    expect(link).to_have_attribute("target", "_blank")
    expect(link).to_have_attribute("rel", "noopener noreferrer")


def test_link_that_is_followed_leaves_the_page_where_it_is(open_chat: OpenChat):
    chat = open_chat({"answers": ["[site](https://example.org/)"]})
    chat.page.context.route("https://example.org/", lambda route: route.fulfill(body="there"))
    chat.ask("Where?")
    with chat.page.context.expect_page() as opened:
        chat.texts.last.get_by_role("link").click()
    opened.value.wait_for_load_state()
    assert opened.value.evaluate("[opener, document.referrer]") == [None, ""]
    expect(chat.texts.last).to_contain_text("site")


def test_blocks(open_chat: OpenChat):
    body = answer(
        open_chat,
        "# Title\n\n###### Deep\n\nOne\ntwo **bold** *soft* ~~gone~~ `code`\n\n"
        "- [x] done\n- [ ] open\n\n3. three\n4. four\n\n> quoted\n\n---\n\n"
        "| left | right |\n|:---|---:|\n| 1 | 2 |\n",
    )
    expect(body.locator("h1")).to_have_count(0)
    expect(body.locator("h2")).to_have_text("Title")
    expect(body.locator("h6")).to_have_text("Deep")
    assert body.locator("p").first.inner_text() == "One\ntwo bold soft gone code"
    for tag, text in (
        ("strong", "bold"),
        ("em", "soft"),
        ("del", "gone"),
        ("blockquote", "quoted"),
    ):
        expect(body.locator(tag)).to_have_text(text)
    expect(body.locator("ul > li")).to_have_text(["☑ done", "☐ open"])
    expect(body.locator("ol")).to_have_attribute("start", "3")
    expect(body.locator("hr")).to_have_count(1)
    table = body.get_by_role("group", name="Table")
    expect(table.locator("td").last).to_have_attribute("align", "right")
    expect(table).to_have_attribute("tabindex", "0")


def test_code_is_named_and_copied_as_it_is(open_chat: OpenChat):
    source = "if a < b && c:\n\tprint('<b>')\n"
    chat = open_chat(
        {"answers": [f"Look:\n\n```python\n{source}```\n\n```\nplain\n```"]},
        permissions=["clipboard-read", "clipboard-write"],
    )
    chat.ask("Code?")
    expect(chat.page.get_by_role("group", name="Code, python")).to_have_text(source)
    copy = chat.page.get_by_role("button", name="Copy code")
    expect(copy).to_have_count(2)
    copy.first.click()
    expect(copy.first).to_contain_text("Copied")
    assert chat.page.evaluate("navigator.clipboard.readText()") == source
    expect(copy.last).not_to_contain_text("Copied")


def test_what_people_write_is_no_markdown(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("**bold** <b>x</b>\n  two")
    expect(chat.texts.first).to_have_text("**bold** <b>x</b>\n  two", use_inner_text=True)
    expect(chat.questions.first.locator("strong, b")).to_have_count(0)


def test_growing_answer_keeps_what_stands(open_chat: OpenChat):
    """A selection in a finished paragraph survives those that follow."""
    chat = open_chat({"manualAnswer": True})
    chat.send("Write.")
    chat.engine("push", "First paragraph.\n\nSecond")
    expect(chat.texts.last.locator("p")).to_have_count(2)
    first = chat.texts.last.locator("p").first
    first.evaluate("p => { p.marked = true; getSelection().selectAllChildren(p); }")
    chat.engine("push", " one, **bold")
    chat.engine("push", "** now.\n\n- list")
    expect(chat.texts.last.locator("strong")).to_have_text("bold")
    expect(chat.texts.last.locator("li")).to_have_text("list")
    assert first.evaluate("p => p.marked") is True
    assert chat.page.evaluate("String(getSelection())") == "First paragraph."
    chat.engine("finish")
    chat.expect_engine("ready")
    expect(chat.texts.last.locator("p")).to_have_text(["First paragraph.", "Second one, bold now."])
