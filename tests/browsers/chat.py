"""The chat page in a real browser."""

from tests.browsers.browser import RealBrowser

ANSWER = "article.assistant .body"
COPY = 'button[aria-label="Copy answer"]'
FINISHED = """
(count) => document.querySelectorAll('button[aria-label="Copy answer"]').length === count &&
  document.documentElement.dataset.engine === "ready" """
# Whether the browser's database has all of the conversation that is shown, with the ends of answers.
KEPT = """async () => {
  const open = indexedDB.open("mlc-edge-chat");
  const database = await new Promise((resolve, reject) => {
    open.onsuccess = () => resolve(open.result);
    open.onerror = () => reject(open.error);
  });
  const all = database.transaction("messages").objectStore("messages").getAll();
  const stored = await new Promise((resolve, reject) => {
    all.onsuccess = () => resolve(all.result);
    all.onerror = () => reject(all.error);
  });
  database.close();
  const kept = stored.filter(({ conversationId }) => location.hash === `#${conversationId}`);
  const shown = document.querySelectorAll("article").length;
  return kept.length >= shown && kept.every(({ state }) => state !== "open");
}"""
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
    """Send a message; the whole answer, once it is kept."""
    earlier = count(browser, COPY)
    send(browser, text)
    browser.wait_for(FINISHED, earlier + 1)
    browser.wait_for(KEPT)
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
