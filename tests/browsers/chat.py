"""The chat page in a real browser."""

from tests.browsers.browser import RealBrowser

ANSWER = "article.assistant .body"
COPY = 'button[aria-label="Copy answer"]'
FINISHED = """
(count) => document.querySelectorAll('button[aria-label="Copy answer"]').length === count &&
  document.documentElement.dataset.engine === "ready" """
OPTIONS = 'button[aria-label^="Options for"]'


def count(browser: RealBrowser, selector: str) -> int:
    found: int = browser.run("(selector) => document.querySelectorAll(selector).length", selector)
    return found


def start(browser: RealBrowser, url: str) -> None:
    """The page, with its model ready."""
    browser.open(url)
    browser.wait_for("() => document.documentElement.dataset.engine === 'ready'")


def send(browser: RealBrowser, text: str) -> None:
    browser.type("#message", text)
    browser.click("#send")


def ask(browser: RealBrowser, text: str) -> str:
    """Send a message; the whole answer."""
    earlier = count(browser, COPY)
    send(browser, text)
    browser.wait_for(FINISHED, earlier + 1)
    return browser.text(ANSWER)


def click_button(browser: RealBrowser, name: str) -> None:
    """The last button that is called so."""
    browser.run(
        """(name) => {
          document.querySelector("[data-target]")?.removeAttribute("data-target");
          const named = [...document.querySelectorAll("button")].filter((button) =>
            (button.ariaLabel ?? button.textContent).trim() === name);
          named.at(-1).dataset.target = "";
        }""",
        name,
    )
    browser.click("[data-target]")
