"""The words that every skill shares: a turn, a conversation and how people type."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TypedDict


class Message(TypedDict):
    """One message in the OpenAI shape."""

    role: str
    content: str


@dataclass(frozen=True)
class Turn:
    """A user's message and the answer to learn."""

    user: str
    assistant: str


@dataclass
class Memory:
    """What the user has told so far: topic to value, as it was typed."""

    told: dict[str, str] = field(default_factory=dict)


OPENERS = (
    "Hi, ",
    "Hello, ",
    "Hey, ",
    "Hey! ",
    "Hi! ",
    "Ok, ",
    "Okay, ",
    "So, ",
    "So ",
    "Now ",
    "And ",
    "Thanks. ",
    "Thank you. ",
    "Great! ",
    "Good. ",
    "Cool, ",
    "Next: ",
    "Quick question: ",
    "One more: ",
    "Question: ",
    "Well, ",
    "Nice. ",
    "Then ",
    "Also, ",
    "Please, ",
)
CLOSERS = (
    " :)",
    " 🙂",
    " 👍",
    " please",
    ", please",
    " thanks",
    ", thanks",
    " now",
    " for me",
    " please",
    " then",
)


@dataclass(frozen=True)
class Typing:
    """How one message is typed: case, opener, closer and final punctuation."""

    lower: bool
    opener: str
    closer: str
    ending: str

    @classmethod
    def draw(cls, rng: random.Random) -> Typing:
        """A random way to type; half of the time the text stays as it is."""
        return cls(
            lower=rng.random() < 0.3,
            opener=rng.choice(OPENERS) if rng.random() < 0.2 else "",
            closer=rng.choice(CLOSERS) if rng.random() < 0.1 else "",
            ending=rng.choice(("keep", "keep", "keep", "drop", "drop", "double")),
        )

    def case(self, text: str) -> str:
        """`text` in the case that this message is typed in."""
        return text.lower() if self.lower else text

    def apply(self, text: str) -> str:
        """The whole message as typed."""
        body, mark = (text[:-1], text[-1]) if text[-1] in "?.!" else (text, "")
        if self.ending == "drop":
            mark = ""
        elif self.ending == "double" and mark in "?!":
            mark *= 2
        keeps_capital = body[:2].isupper() or body.startswith(("I ", "I'"))
        if self.opener and not keeps_capital:
            body = body[0].lower() + body[1:]
        return self.case(f"{self.opener}{body}{self.closer}{mark}")


PLAIN = Typing(lower=False, opener="", closer="", ending="keep")


def article(noun: str) -> str:
    """The noun with `a` or `an`."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def to_messages(turns: list[Turn], *, system: str | None = None) -> list[Message]:
    """Turns as chat messages, with the system prompt first when there is one."""
    messages: list[Message] = []
    if system is not None:
        messages.append({"role": "system", "content": system})
    for turn in turns:
        messages.append({"role": "user", "content": turn.user})
        messages.append({"role": "assistant", "content": turn.assistant})
    return messages
