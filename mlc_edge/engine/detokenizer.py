"""From tokens to text, which never ends within a character or a stop string."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class TokenBytes(Protocol):
    """What tokens stand for; see Vocabulary."""

    strips_first_space: bool

    def bytes(self, id: int) -> bytes:
        """UTF-8 of a token, maybe part of a character."""


@dataclass(frozen=True)
class TextPiece:
    """What became certain with a token; `stopped`: a stop string was found, nothing follows."""

    text: str
    stopped: bool


class Detokenizer:
    """Text of one answer, token by token.

    The first stop string to be complete ends the text, the longest if several end there. What may
    be the start of one is held back until that's decided. Text that goes on keeps its first space.
    """

    def __init__(
        self, vocabulary: TokenBytes, stops: Sequence[str], *, goes_on: bool = False
    ) -> None:
        self._vocabulary = vocabulary
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._at_start = not goes_on
        self.decoded = 0

    def push(self, id: int) -> TextPiece:
        """The next token."""
        return self._release(self._decoder.decode(self._bytes(id)))

    def finish(self) -> TextPiece:
        """What is left at the end; an unfinished character becomes U+FFFD."""
        piece = self._release(self._decoder.decode(b"", final=True))
        if piece.stopped:
            return piece
        rest, self._held = self._held, ""
        return TextPiece(piece.text + rest, False)

    def _bytes(self, id: int) -> bytes:
        data = self._vocabulary.bytes(id)
        if not self._at_start or not data:
            return data
        self._at_start = False
        return data.removeprefix(b" ") if self._vocabulary.strips_first_space else data

    def _release(self, fresh: str) -> TextPiece:
        self.decoded += len(fresh)
        text = self._held + fresh
        end = self._find_stop(text)
        if end is not None:
            self._held = ""
            return TextPiece(text[:end], True)
        shown = len(text) - self._undecided(text)
        self._held = text[shown:]
        return TextPiece(text[:shown], False)

    def _find_stop(self, text: str) -> int | None:
        """Where the text ends because of a stop string."""
        found = [
            (start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0
        ]
        return min(found)[1] if found else None

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        return max((_overlap(text, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` and isn't all of it."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0 and not stop.startswith(text[start:]):
        start = text.find(stop[0], start + 1)
    return len(text) - start if start >= 0 else 0
