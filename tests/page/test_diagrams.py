"""Diagrams are drawn in a frame that can do nothing else, and shown as pictures."""

import re
from urllib.parse import unquote

from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Chat, OpenChat

FRAME = re.compile(r"/dist/diagram-\w+\.html$")
DRAWN_MS = 30_000
FLOW = "flowchart LR\n  A[Ask] -->|words| B{Think}\n  B --> C(Answer)\n"
HOSTILE = """
flowchart LR
  A["<img src=x onerror=top.hacked=1><script>top.hacked=2</script>"] --> B
  click A "javascript:top.hacked=3"
  click B href "https://example.org/"
"""


def fenced(source: str) -> str:
    return f"See:\n\n```mermaid\n{source}```\n\nDone."


def asked(open_chat: OpenChat, *answers: str, **options: object) -> Chat:
    chat = open_chat({"answers": [fenced(answer) for answer in answers]}, **options)
    chat.ask("Draw.")
    return chat


def picture(chat: Chat) -> str:
    image = chat.texts.last.get_by_role("img", name="Diagram")
    expect(image).to_be_visible(timeout=DRAWN_MS)
    return unquote(image.get_attribute("src") or "")


def frames(page: Page) -> int:
    return page.locator("iframe").count()


def test_a_diagram_is_a_picture_with_its_source_behind_it(open_chat: OpenChat):
    chat = asked(open_chat, FLOW)
    svg = picture(chat)
    for word in ("Ask", "words", "Think", "Answer"):
        assert word in svg
    image = chat.texts.last.get_by_role("img", name="Diagram")
    width, height = image.evaluate("image => [image.clientWidth, image.clientHeight]")
    assert 100 < width < 800 and 30 < height < 400
    expect(chat.page.locator("iframe")).to_have_count(0)
    code = chat.page.get_by_role("group", name="Code, mermaid")
    expect(code).to_be_hidden()
    chat.page.get_by_role("button", name="Source", exact=True).click()
    expect(code).to_have_text(FLOW, use_inner_text=True)


def test_it_follows_the_theme(open_chat: OpenChat):
    chat = asked(open_chat, FLOW, color_scheme="light")
    light = picture(chat)
    chat.page.emulate_media(color_scheme="dark")
    image = chat.texts.last.get_by_role("img", name="Diagram")
    expect(image).not_to_have_attribute(
        "src", re.compile("fill%3A%23ECECFF", re.I), timeout=DRAWN_MS
    )
    assert picture(chat) != light
    expect(chat.page.get_by_role("button", name="Source", exact=True)).to_have_count(1)


def test_a_hostile_diagram_does_nothing(open_chat: OpenChat):
    chat = open_chat({"answers": [fenced(HOSTILE)]})
    requested: list[str] = []
    chat.page.context.on("request", lambda request: requested.append(request.url))
    chat.ask("Attack me.")
    svg = picture(chat)
    assert "<script" not in svg and "onerror=" not in svg.replace("&lt;img src=x onerror=", "")
    assert chat.page.evaluate("window.hacked") is None
    assert not [url for url in requested if "example.org" in url]
    expect(chat.texts.last.locator("svg:not(.icon), a")).to_have_count(0)


def test_what_is_no_diagram_stays_its_source(open_chat: OpenChat):
    chat = asked(open_chat, "flowchart LR\n  A[[[ --> \n")
    expect(chat.texts.last).to_contain_text(re.compile("be drawn"), timeout=DRAWN_MS)
    expect(chat.page.get_by_role("group", name="Code, mermaid")).to_be_visible()
    expect(chat.texts.last.locator("img")).to_have_count(0)
    expect(chat.page.locator("iframe")).to_have_count(0)


def test_the_frame_reaches_neither_page_nor_network(open_chat: OpenChat):
    chat = open_chat({"answers": [fenced(FLOW)]})
    probe = """<!doctype html><script>onmessage = async () => {
      const tried = {};
      for (const [name, attempt] of Object.entries({
        origin: () => self.origin,
        page: () => parent.document.title,
        storage: () => localStorage.length,
        network: () => fetch("https://example.org/").then(() => "fetched"),
      })) try { tried[name] = await attempt(); } catch { tried[name] = "refused"; }
      parent.postMessage(tried, "*");
    };</script>"""

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=probe)

    chat.page.route(FRAME, answer)
    chat.page.evaluate("addEventListener('message', ({ data }) => { window.tried = data; })")
    chat.ask("Draw.")
    chat.page.wait_for_function("() => window.tried", timeout=DRAWN_MS)
    assert chat.page.evaluate("window.tried") == {
        "origin": "null",
        "page": "refused",
        "storage": "refused",
        "network": "refused",
    }
    expect(chat.page.locator("iframe")).to_have_attribute("sandbox", "allow-scripts")


def test_without_the_frame_the_source_is_shown(open_chat: OpenChat):
    chat = open_chat({"answers": [fenced(FLOW)]})
    chat.page.route(FRAME, lambda route: route.abort())
    chat.page.clock.install()
    with chat.page.expect_request(FRAME):
        chat.ask("Draw.")
    chat.page.clock.run_for(16_000)
    expect(chat.texts.last).to_contain_text(re.compile("be drawn"))
    expect(chat.page.get_by_role("group", name="Code, mermaid")).to_be_visible()
    expect(chat.page.locator("iframe")).to_have_count(0)
