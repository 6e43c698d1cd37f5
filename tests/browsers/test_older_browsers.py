"""What browsers lack that the page must run in: Safari 26 and Chrome 123 iterate over no stream."""

from tests.browsers.browser import RealBrowser
from tests.browsers.chat import ask
from tests.web.serving import Site

ASYNC_ITERABLE = "() => Symbol.asyncIterator in ReadableStream.prototype"


def without_iterators(browser: RealBrowser, url: str) -> None:
    """Opens a page of this origin, whose scripts then find streams that can't be iterated."""
    browser.open(url)
    browser.run(
        """() => {
          delete ReadableStream.prototype[Symbol.asyncIterator];
          delete ReadableStream.prototype.values;
        }"""
    )
    assert browser.run(ASYNC_ITERABLE) is False


def test_answers_are_read_without_iterating_over_streams(browser: RealBrowser, daemon_site: Site):
    without_iterators(browser, daemon_site.url)
    browser.wait_for("() => document.documentElement.dataset.engine === 'ready'")
    assert ask(browser, "What is 17 + 25?") == "17 + 25 = 42."
    assert browser.problems() == []
