"""`mlc-edge run` answers, and each engine shows it: streaming, Stop, Regenerate, the history."""

import threading

from tests.browsers.browser import PHONE, RealBrowser
from tests.browsers.chat import ANSWER, OPTIONS, ask, click_button, count, send, start
from tests.web.serving import Site

API = "/v1/chat/completions"
STORY = "Tell me a story about a cat."


def stall(site: Site, after_bytes: int) -> threading.Event:
    """Hold the next answer back after so much of it."""
    go_on = threading.Event()
    site.network.stalls[API] = (after_bytes, go_on)
    return go_on


def test_the_daemon_answers(browser: RealBrowser, daemon_site: Site):
    start(browser, daemon_site.url)
    assert "What you type goes there" in browser.text("#privacy")
    assert ask(browser, "What is 17 + 25?") == "17 + 25 = 42."
    assert "tokens/s" in browser.text("article.assistant .stats summary")
    assert ask(browser, "My name is Zorvan.")
    assert "Zorvan" in ask(browser, "What is my name?")
    assert browser.problems() == []


def test_an_answer_grows_while_it_comes(browser: RealBrowser, daemon_site: Site):
    start(browser, daemon_site.url)
    go_on = stall(daemon_site, 2_000)
    send(browser, STORY)
    beginning = browser.wait_for(
        """() => document.querySelector("article[aria-busy] .body.prose")?.innerText.trim()"""
    )
    assert browser.run("() => document.querySelector('#stop').hidden") is False
    go_on.set()
    browser.wait_for("() => document.querySelector('#stop').hidden")
    whole = browser.text(ANSWER)
    assert whole.startswith(beginning) and len(whole) > len(beginning)


def test_stop_keeps_the_beginning_and_regenerate_writes_anew(
    browser: RealBrowser, daemon_site: Site
):
    start(browser, daemon_site.url)
    go_on = stall(daemon_site, 2_000)
    send(browser, STORY)
    browser.wait_for("() => document.querySelector('article[aria-busy] .body.prose')?.innerText")
    browser.click("#stop")
    browser.wait_for_text("article.assistant .note", "Stopped.")
    go_on.set()
    beginning = browser.text(ANSWER)
    click_button(browser, "Regenerate")
    browser.wait_for(
        """(beginning) => !document.querySelector("article[aria-busy], .note") &&
          [...document.querySelectorAll(".body.prose")].at(-1).innerText.length > beginning""",
        len(beginning),
    )
    assert count(browser, "article") == 2
    assert browser.problems() == []


def test_conversations_are_kept(browser: RealBrowser, daemon_site: Site):
    start(browser, daemon_site.url)
    ask(browser, "What is 17 + 25?")
    conversation = browser.run("() => location.hash")
    start(browser, daemon_site.url)
    assert "What is 17 + 25?" in browser.wait_for_text("#conversations", "17")
    browser.click("#conversations a")
    assert browser.wait_for_text(ANSWER, "42") == "17 + 25 = 42."
    assert browser.run("() => location.hash") == conversation
    browser.click(OPTIONS)
    click_button(browser, "Delete")
    browser.wait_for_text("#toasts", "Deleted")
    assert browser.text("#conversations") == ""
    click_button(browser, "Undo")
    browser.wait_for_text("#conversations", "17")
    assert browser.wait_for_text(ANSWER, "42")
    assert browser.problems() == []


def test_settings_are_kept_and_used(browser: RealBrowser, daemon_site: Site):
    start(browser, daemon_site.url)
    browser.click("#settings-button")
    browser.type("#setting-maxTokens", "4")
    browser.press("#settings-default", "Space")
    click_button(browser, "Save")
    ask(browser, STORY)
    browser.wait_for_text("article.assistant .note", "longest allowed length")
    start(browser, daemon_site.url)
    browser.click("#settings-button")
    assert browser.run("() => document.querySelector('#setting-maxTokens').value") == "4"


def test_the_drawer_of_a_phone(browser: RealBrowser, daemon_site: Site):
    browser.resize(*PHONE)
    start(browser, daemon_site.url)
    ask(browser, "What is 17 + 25?")
    browser.click("#open-sidebar")
    browser.wait_for(
        """() => document.querySelector("#sidebar").getBoundingClientRect().left === 0"""
    )
    browser.click("#conversations a")
    browser.wait_for("""() => document.querySelector("#sidebar").inert""")
    assert browser.text(ANSWER) == "17 + 25 = 42."
    assert browser.problems() == []
