"""Opening it where there is little room, where nothing comes, and without seeing it."""

import pytest
from playwright.sync_api import Route, expect

from tests.browser import Held
from tests.widget.conftest import OpenWidget
from tests.widget.test_lifetime import PANEL

BIG = {"missingBytes": 4_400_000, "isSoftware": True, "answers": ["Yes."]}


@pytest.mark.parametrize("size", [(667, 320), (844, 390), (320, 256)])
def test_on_short_windows_everything_can_be_reached(open_widget: OpenWidget, size: tuple[int, int]):
    """A phone that is held sideways, and 400 % of zoom."""
    width, height = size
    widget = open_widget(BIG, viewport={"width": width, "height": height})
    widget.open()
    download = widget.button("Download 4.4 MB")
    download.scroll_into_view_if_needed()
    expect(download).to_be_in_viewport(ratio=0.95)
    download.click()
    widget.expect_state("ready")
    widget.box.scroll_into_view_if_needed()
    expect(widget.box).to_be_in_viewport(ratio=0.95)
    widget.ask("Is there room?")
    assert widget.element.locator(".scroller").evaluate("element => element.clientHeight") >= 100
    expect(widget.button("Close chat").first).to_be_visible()


def test_a_script_that_never_comes_is_given_up(open_widget: OpenWidget):
    held = Held()
    widget = open_widget(routes={PANEL: held})
    widget.page.clock.install()
    widget.open()
    held.wait(widget.page)
    widget.page.clock.fast_forward(31_000)
    expect(widget.button("Try again")).to_be_visible()
    assert widget.run("chat.state") == "error"
    for route in held.routes:
        route.abort()


def test_a_portal_in_the_place_of_the_script_is_told_to_the_site(open_widget: OpenWidget):
    def portal(route: Route) -> None:
        route.fulfill(body="<p>Sign in</p>", content_type="text/html")

    widget = open_widget(routes={PANEL: portal})
    widget.open()
    expect(widget.button("Try again")).to_be_visible()
    assert widget.run("chat.state") == "error"
    assert [problem["code"] for problem in widget.events("error")] == ["network_error"]
    failure = "chat.load().catch(({ code, remedy }) => [code, Boolean(remedy)])"
    assert widget.run(failure) == ["network_error", True]


def test_what_is_to_be_decided_is_announced_and_has_the_focus(open_widget: OpenWidget):
    widget = open_widget(BIG)
    widget.open()
    expect(widget.announcer).to_contain_text("4.4 MB")
    expect(widget.button("Download 4.4 MB")).to_be_focused()


def test_what_is_typed_meanwhile_keeps_the_focus(open_widget: OpenWidget):
    held = Held()
    widget = open_widget({**BIG, "manualLoad": True}, routes={PANEL: held})
    widget.open()
    held.let_go(widget.page)
    widget.box.fill("I was typing")
    widget.expect_state("consent")
    widget.box.press("End")
    expect(widget.box).to_be_focused()


def test_a_tab_that_asks_takes_what_another_has_downloaded(open_widget: OpenWidget):
    widget = open_widget(BIG)
    widget.open()
    widget.expect_state("consent")
    widget.page.evaluate("() => { widgetScript.missingBytes = 0; }")
    widget.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    widget.expect_state("ready")


def test_what_the_site_asked_for_wrongly_is_told_to_its_maker(open_widget: OpenWidget):
    widget = open_widget()
    widget.run("chat.setAttribute('server', 'ftp://nowhere')")
    with widget.page.expect_console_message(
        lambda message: "isn't the address of a server" in message.text
    ):
        widget.open()
    widget.expect_state("error")
    expect(widget.button("Try again")).to_have_count(0)
