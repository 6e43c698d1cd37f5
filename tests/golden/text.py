"""Bytes of tokens and stop strings to the pieces of text that may be shown after each token."""

import codecs
from typing import Any

FAMILY = "👩‍👩‍👧 née"
CASES: list[dict[str, Any]] = [
    {"tokens": [b"Hello", b" world"], "stops": []},
    {"tokens": [bytes([byte]) for byte in FAMILY.encode()], "stops": []},
    {"tokens": [b"\xe2\x82", b"\xac and \xf0\x9f", b"\x99\x82!"], "stops": []},
    {"tokens": [b"cut \xf0\x9f\x99"], "stops": []},
    {"tokens": [b"bad \xe2\x82", b"A\xff", b"\xf0\x80\x80ok"], "stops": []},
    {"tokens": [b"\xef\xbb\xbfmark"], "stops": []},
    {"tokens": [b" led", b" on"], "stops": [], "strips_first_space": True},
    {"tokens": [b"", b"  two"], "stops": [], "strips_first_space": True},
    {"tokens": [b" led", b" on"], "stops": [], "strips_first_space": True, "goes_on": True},
    {"tokens": [b"one\n", b"two\nthree"], "stops": ["\n"]},
    {"tokens": [b"Us", b"er", b": no ", b"User", b":x"], "stops": ["User:"]},
    {"tokens": [b"a", b"a", b"a", b"b", b"c"], "stops": ["aab"]},
    {"tokens": [b"xabcabd", b"more"], "stops": ["abd"]},
    {"tokens": [b"ab", b"cd"], "stops": ["bcd", "abc"]},
    {"tokens": [b"ab", b"cd"], "stops": ["c", "abcd"]},
    {"tokens": [b"abc"], "stops": ["c", "bc"]},
    {"tokens": [b"almost END"], "stops": ["END."]},
    {"tokens": [b"caf", b"\xc3", b"\xa9 later"], "stops": ["é"]},
    {"tokens": [b"\xf0\x9f\x98", b"\x80x"], "stops": ["😀x", "zzz"]},
    {"tokens": [b"stop", b"here"], "stops": ["stophere", "herestop"]},
]


def _split(text: str, stops: list[str]) -> tuple[str, bool]:
    """What of `text` may be shown, and whether a stop string is complete; letter by letter."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)], True
    held = 0
    for length in range(1, len(text) + 1):
        if any(len(stop) > length and stop.startswith(text[-length:]) for stop in stops):
            held = length
    return text[: len(text) - held], False


def _expect(case: dict[str, Any]) -> dict[str, Any]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    whole, shown, started = "", 0, not case.get("strips_first_space") or bool(case.get("goes_on"))
    pieces: list[dict[str, Any]] = []
    for data in [*case["tokens"], None]:
        if data and not started:
            started, data = True, data.removeprefix(b" ")
        whole += decoder.decode(b"", True) if data is None else decoder.decode(data)
        visible, stopped = _split(whole, case["stops"])
        if data is None and not stopped:
            visible = whole
        pieces.append({"text": visible[shown:], "stopped": stopped})
        shown = len(visible)
        if stopped:
            break
    return {**case, "tokens": [list(data) for data in case["tokens"]], "pieces": pieces}


def make() -> dict[str, Any]:
    return {"cases": [_expect(case) for case in CASES]}
