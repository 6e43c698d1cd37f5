"""The second visit needs no network."""

from tests.browsers.browser import RealBrowser
from tests.browsers.conftest import OpenSite


def test_page_opens_without_its_host(browser: RealBrowser, open_site: OpenSite):
    site = open_site()
    browser.open(site.url)
    browser.wait_for("() => navigator.serviceWorker.controller?.state === 'activated'")
    with site.down():
        browser.open(site.url)
        browser.wait_for_text("#welcome", "What would you like to ask?")
        # Styles and scripts are there, too.
        browser.wait_for("() => document.querySelectorAll('#examples button').length > 0")
        assert browser.run("() => getComputedStyle(document.body).margin") == "0px"
