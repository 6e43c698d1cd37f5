"""Compressed variants of small files, made once and kept in memory."""

import gzip
from pathlib import PurePosixPath

import brotli

COMPRESSIBLE = frozenset(
    {".wasm", ".js", ".mjs", ".css", ".html", ".json", ".svg", ".txt", ".model", ".webmanifest"}
)
# In the order that is preferred.
ENCODINGS = ("br", "gzip")
MIN_BYTES = 1024
# Above this, compressing would hold a worker thread for seconds and double memory.
MAX_BYTES = 64 << 20


def is_compressible(path: str, size: int) -> bool:
    """Whether a file of `size` bytes under this name is worth compressing; weights aren't."""
    return PurePosixPath(path).suffix in COMPRESSIBLE and MIN_BYTES <= size <= MAX_BYTES


def compress(content: bytes, encoding: str) -> bytes:
    """`content` in `encoding`, one of ENCODINGS; the same bytes give the same result."""
    if encoding == "br":
        return brotli.compress(content, quality=7)
    return gzip.compress(content, compresslevel=7, mtime=0)


def accepted_encoding(accept_encoding: str) -> str | None:
    """The best of ENCODINGS that an Accept-Encoding header allows; None means uncompressed."""
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        name, _, parameter = item.partition(";")
        weights[name.strip()] = _weight(parameter)
    anything = weights.get("*", 0.0)
    for encoding in ENCODINGS:
        if weights.get(encoding, anything) > 0:
            return encoding
    return None


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
