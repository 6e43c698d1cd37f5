"""What tests ask of a real browser, whichever engine it has: a person's doings, and JavaScript."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

# Of what a driver does. A page that doesn't load is given up soon: another window may.
TIMEOUT_S = 30
# Of JavaScript, which may wait for workers, servers and models.
RUN_S = 60
# Chromium at times says nothing of a shared worker's script that can't be had: the next way comes after 30 s.
PATIENCE_S = 75
POLL_S = 0.03
T = TypeVar("T")
DESKTOP = (1280, 800)
PHONE = (390, 844)
USABLE = """(selector) => {
  const found = document.querySelector(selector);
  return found !== null && !found.matches(":disabled") && found.checkVisibility();
}"""


class RealBrowser(ABC):
    """One window. Each page that it opens records what goes wrong in it."""

    def open(self, url: str) -> None:
        """A page from the start, even where only the fragment differs."""
        self.navigate("about:blank")
        self.navigate(url)

    @abstractmethod
    def navigate(self, url: str) -> None: ...

    def click(self, selector: str) -> None:
        """Once there is such an element, and it can be used; so is what follows."""
        self.wait_for(USABLE, selector)
        self._click(selector)

    def type(self, selector: str, text: str) -> None:
        """Add to what a field says, key by key."""
        self.wait_for(USABLE, selector)
        self._type(selector, text)

    def press(self, selector: str, key: str) -> None:
        """Enter, Escape, Tab or Space, with the focus there."""
        self.wait_for(USABLE, selector)
        self._press(selector, key)

    @abstractmethod
    def _click(self, selector: str) -> None: ...

    @abstractmethod
    def _type(self, selector: str, text: str) -> None: ...

    @abstractmethod
    def _press(self, selector: str, key: str) -> None: ...

    @abstractmethod
    def resize(self, width: int, height: int) -> None:
        """The page's own size, in CSS pixels."""

    @abstractmethod
    def screenshot(self) -> bytes:
        """PNG of what can be seen."""

    @abstractmethod
    def problems(self) -> list[str]:
        """Uncaught errors, `console.error` and violated policies since the page was opened."""

    @abstractmethod
    def close(self) -> None: ...

    def restart(self) -> None:
        """Start anew a browser that answers no more."""
        raise NotImplementedError

    @abstractmethod
    def evaluate(self, body: str) -> Any:
        """What JavaScript gives to its last argument, a callback; JSON values only."""

    def run(self, script: str, *arguments: Any) -> Any:
        """What the JavaScript function `script` returns, or what its promise resolves to."""
        values = ", ".join(map(json.dumps, arguments))
        outcome = self.evaluate(
            f"""const done = arguments[arguments.length - 1];
            const end = (outcome) => {{ clearTimeout(timer); done(JSON.stringify(outcome)); }};
            const timer = setTimeout(() => end({{ error: "no answer in time" }}), {RUN_S * 1000});
            Promise.resolve().then(() => ({script})({values})).then(
              (value) => end({{ value: value ?? null }}),
              (error) => end({{ error: `${{error}}\\n${{error?.stack}}` }}));"""
        )
        result = json.loads(outcome)
        assert "error" not in result, result["error"]
        return result["value"]

    def wait_for(self, script: str, *arguments: Any) -> Any:
        """The first true value of the JavaScript function `script`."""
        return until(
            lambda: self.run(script, *arguments),
            lambda: f"{script} {arguments}: {self.problems()}\n{self.text('body')}",
        )

    def text(self, selector: str) -> str:
        """Of the last that the selector finds; empty if there is none."""
        text: str = self.run(
            "(selector) => [...document.querySelectorAll(selector)].at(-1)?.innerText.trim() ?? ''",
            selector,
        )
        return text

    def wait_for_text(self, selector: str, text: str) -> str:
        """All of the last one's text, once it has this in it."""
        return until(
            lambda: found if text in (found := self.text(selector)) else "",
            lambda: f"no {text!r} in {selector}: {self.problems()}\n{self.text('body')}",
        )


def until(attempt: Callable[[], T], explain: Callable[[], str]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := attempt()):
        assert time.monotonic() < deadline, explain()
        time.sleep(POLL_S)
    return value
