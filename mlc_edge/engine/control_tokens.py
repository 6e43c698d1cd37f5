"""What people write stays text, even where it looks like a model's control token."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from tokenizers import Tokenizer

from mlc_edge.engine.protocol import ChatMessage
from mlc_edge.errors import EngineError

# Private use: characters that stand for something in this module alone.
PRIVATE = ((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))
# Texts that a tokenizer hardly joins with what follows.
JOINTS = ("\n", ".")

Encode = Callable[[str], list[int]]


class ControlTokens:
    """The tokens by which a chat template tells a model who speaks, and where turns begin and end.

    `front` are those that the tokenizer's post-processor puts before a text that no template wrote.

    These are the special ones among the added tokens, and any others that the template's source
    contains; in assistant messages the special ones alone, because templates look for the others there.
    """

    def __init__(self, tokenizer: dict[str, Any], template: str, main: Tokenizer) -> None:
        """`main` was made of `tokenizer`, the content of tokenizer.json; `template` writes prompts."""
        added = [token for token in tokenizer.get("added_tokens") or () if token["content"].strip()]
        special = [token for token in added if token["special"]]
        named = [t for t in added if t["content"] in template and len(t["content"].strip()) > 1]
        unknown = _unknown_token(tokenizer["model"])
        self._ids = {token["id"] for token in chain(special, named) if token["content"] != unknown}
        self._added_ids = {token["id"] for token in tokenizer.get("added_tokens") or ()}
        self._special = _Finder((token["content"] for token in special), main)
        self._all = _Finder((token["content"] for token in chain(special, named)), main)
        self._template = template
        self._main = main
        self._plain = Tokenizer(main.model)
        for part in ("normalizer", "pre_tokenizer"):
            if getattr(main, part) is not None:
                setattr(self._plain, part, getattr(main, part))
        self.front = front_tokens(main)
        self._begins_with_space = any(map(_puts_space_first, _parts(tokenizer)))

    def set_apart(
        self, messages: Sequence[ChatMessage]
    ) -> tuple[list[ChatMessage], dict[str, str]]:
        """The messages with a character of private use for each string that isn't to become a control token.

        Returns them and what the characters stand for: the first ones that neither the messages nor the
        template have, in the order in which the strings occur. Raises EngineError if there are none left.
        """
        apart: dict[str, str] = {}
        unused = _unused((self._template, *(message.content for message in messages)))

        def stand_in(text: str) -> str:
            if text not in apart:
                apart[text] = next(unused)
            return apart[text]

        found = [self._set_apart(message, stand_in) for message in messages]
        return found, {character: text for text, character in apart.items()}

    def encode(self, text: str, apart: Mapping[str, str]) -> list[int]:
        """The tokens of a text in which characters stand for the strings that were set apart."""
        if not apart:
            return self._encode(text)
        ids: list[int] = []
        for part in re.split(f"([{''.join(apart)}])", text):
            # A space that is put in front belongs to the first text after an added token.
            goes_on = bool(ids) and ids[-1] not in self._added_ids
            if part in apart:
                ids += self._plain_ids(apart[part], goes_on=goes_on)
            elif part:
                ids += self._tokens(self._encode, part, goes_on=goes_on)
        return ids

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each of the texts has by itself."""
        return list(map(len, _encode_all(self._main, texts)))

    def _set_apart(self, message: ChatMessage, stand_in: Callable[[str], str]) -> ChatMessage:
        finder = self._special if message.role == "assistant" else self._all
        parts = finder.split(message.content)
        content = "".join(stand_in(part) if is_control else part for part, is_control in parts)
        return replace(message, content=content)

    def _encode(self, text: str) -> list[int]:
        return _encode_all(self._main, [text])[0]

    def _encode_plain(self, text: str) -> list[int]:
        return _encode_all(self._plain, [text])[0]

    def _plain_ids(self, text: str, *, goes_on: bool) -> list[int]:
        """The tokens of a text, none of which is a control token."""
        ids = self._tokens(self._encode_plain, text, goes_on=goes_on)
        if self._ids.isdisjoint(ids):
            return ids
        # A model's own vocabulary may have the string as one piece.
        ids = []
        for index, letter in enumerate(text):
            ids += self._tokens(self._encode_plain, letter, goes_on=goes_on or index > 0)
        return [id for id in ids if id not in self._ids]

    def _tokens(self, encode: Encode, text: str, *, goes_on: bool) -> list[int]:
        """The tokens of a text; without a space in front of it if it goes on after another."""
        for joint in JOINTS if goes_on and self._begins_with_space else ():
            before, both = encode(joint), encode(joint + text)
            if before and both[: len(before)] == before:
                return both[len(before) :]
        return encode(text)


def _encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [found.ids for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def front_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What the tokenizer puts before every text; what it puts behind one would end it."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    ids = tokenizer.encode("a").ids
    starts = (start for start in range(len(ids)) if bare and ids[start:][: len(bare)] == bare)
    return tuple(ids[: next(starts, 0)])


class _Finder:
    """Finds control tokens' strings in texts: as they are, and as what a normaliser makes of a text."""

    def __init__(self, contents: Iterable[str], main: Tokenizer) -> None:
        found = set(contents)
        normalizer = main.normalizer
        self._normalize = normalizer.normalize_str if normalizer is not None else None
        self._literal = _one_of(found)
        self._normalized = _one_of(found | {self._normalize(c) for c in found if self._normalize})

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a text, and whether each would become a control token."""
        spans = (match.span() for match in self._literal.finditer(text))
        for part, is_control in _split(text, spans):
            if is_control or not self._is_hidden_in(part):
                yield part, is_control
                continue
            for smaller, is_hidden in _split(part, self._hidden_spans(part)):
                # Letters may become a control token only together.
                yield smaller, is_hidden or self._is_hidden_in(smaller)

    def _is_hidden_in(self, text: str) -> bool:
        return bool(self._normalize and self._normalized.search(self._normalize(text)))

    def _hidden_spans(self, text: str) -> Iterator[tuple[int, int]]:
        assert self._normalize is not None
        letters = [self._normalize(letter) for letter in text]
        origins = [index for index, letter in enumerate(letters) for _ in letter]
        for match in self._normalized.finditer("".join(letters)):
            yield origins[match.start()], origins[match.end() - 1] + 1


def _one_of(texts: Iterable[str]) -> "re.Pattern[str]":
    """Matches any of the texts, the longest where several begin; nothing if there are none."""
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _split(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """The parts of a text, and whether each is in a span; these come in order and may overlap."""
    end = 0
    for start, stop in spans:
        if start > end:
            yield text[end:start], False
        if stop > end:
            yield text[max(start, end) : stop], True
        end = max(end, stop)
    if end < len(text):
        yield text[end:], False


def _unused(texts: Iterable[str]) -> Iterator[str]:
    """Characters of private use that no text has; raises EngineError after the last one."""
    used = set(chain.from_iterable(texts))
    codes = chain.from_iterable(range(first, last + 1) for first, last in PRIVATE)
    yield from (chr(code) for code in codes if chr(code) not in used)
    message = "The messages have too many characters of private use."
    raise EngineError("invalid_request", message, "Leave some out.", "messages")


def _unknown_token(model: dict[str, Any]) -> str | None:
    """What ordinary text that the model doesn't know becomes."""
    if model.get("unk_id") is not None:
        piece: str = model["vocab"][model["unk_id"]][0]
        return piece
    return model.get("unk_token")


def _parts(tokenizer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a tokenizer does to a text before its model, step by step."""
    pending = [tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")]
    while pending:
        part = pending.pop()
        if part:
            yield part
            pending += part.get("normalizers") or part.get("pretokenizers") or ()


def _puts_space_first(part: dict[str, Any]) -> bool:
    if part["type"] == "Metaspace":
        return part.get("prepend_scheme") != "never" and part.get("add_prefix_space") is not False
    return part["type"] == "Prepend" or part.get("add_prefix_space") is True
