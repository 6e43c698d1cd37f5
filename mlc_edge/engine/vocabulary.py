"""The bytes that each token stands for."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from mlc_edge.errors import BundleError

SPACE = "\u2581"
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """Looks up tokens of byte-level BPE, and of sentencepiece with byte fallback."""

    def __init__(self, tokenizer: dict[str, Any]) -> None:
        """`tokenizer` is the content of tokenizer.json; raises BundleError for other decoders."""
        vocab = tokenizer["model"]["vocab"]
        entries = (
            vocab.items()
            if isinstance(vocab, dict)
            else ((entry[0], id) for id, entry in enumerate(vocab))
        )
        tokens = {id: token for token, id in entries}
        self._added = {token["id"]: token for token in tokenizer.get("added_tokens") or []}
        tokens.update((id, token["content"]) for id, token in self._added.items())
        self._tokens = tokens
        self.size = max(tokens) + 1
        decoders = list(_flatten(tokenizer.get("decoder")))
        self._to_bytes = _token_bytes(decoders)
        self.strips_first_space = any(map(_strips_space, decoders))

    def written(self, id: int) -> bytes:
        """UTF-8 of a token as it stands in a raw prompt, where control tokens are written by name."""
        added = self._added.get(id)
        return str(added["content"]).encode() if added else self.bytes(id)

    def bytes(self, id: int) -> bytes:
        """UTF-8 of a token, maybe part of a character; empty for special and unknown tokens."""
        added = self._added.get(id)
        if added:
            return b"" if added["special"] else str(added["content"]).encode()
        token = self._tokens.get(id)
        return b"" if token is None else self._to_bytes(token)

    def text(self, id: int) -> str:
        """A token for people: its text, or its name if it is special."""
        added = self._added.get(id)
        return str(added["content"]) if added else self.bytes(id).decode(errors="replace")


def _flatten(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if not decoder:
        return
    if decoder["type"] != "Sequence":
        yield decoder
    for part in decoder.get("decoders") or ():
        yield from _flatten(part)


def _strips_space(decoder: dict[str, Any]) -> bool:
    """Whether the tokenizer put a space before every text, which an answer shouldn't begin with."""
    if decoder["type"] == "Strip":
        return decoder.get("content") == " " and decoder.get("start") == 1
    wants_prefix = decoder.get("prepend_scheme") != "never"
    return bool(
        decoder["type"] == "Metaspace"
        and wants_prefix
        and decoder.get("add_prefix_space") is not False
    )


def _token_bytes(decoders: list[dict[str, Any]]) -> Callable[[str], bytes]:
    types = {decoder["type"] for decoder in decoders}
    if "ByteLevel" in types:
        return _byte_level()
    if "Metaspace" in types:
        return _byte_fallback(SPACE)
    if "ByteFallback" in types:
        patterns = [
            (decoder.get("pattern") or {}).get("String")
            for decoder in decoders
            if decoder["type"] == "Replace" and decoder.get("content") == " "
        ]
        return _byte_fallback((patterns and patterns[0]) or SPACE)
    raise BundleError(
        f"tokenizer.json has a decoder of {', '.join(sorted(types)) or 'no kind'}: models need a "
        "byte-level BPE or a sentencepiece tokenizer."
    )


def _byte_fallback(space: str) -> Callable[[str], bytes]:
    def to_bytes(token: str) -> bytes:
        byte = BYTE_TOKEN.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace(space, " ").encode()

    return to_bytes


def _byte_level() -> Callable[[str], bytes]:
    """GPT-2's way to write bytes as printable characters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [*map(chr, printable), *(chr(256 + index) for index in range(len(others)))]
    by_character = dict(zip(characters, [*printable, *others], strict=True))

    def to_bytes(token: str) -> bytes:
        return b"".join(
            bytes([by_character[c]]) if c in by_character else c.encode() for c in token
        )

    return to_bytes
