"""How an option of the daemon is read: from text or from a TOML value, checked, described."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from mlc_edge.devices import EXPECTED_DEVICE, DeviceChoice
from mlc_edge.errors import ConfigError
from mlc_edge.signing import EXPECTED_KEY, PublicKey, parse_public_key

Parse = Callable[[Any], Any]
SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of value. `parse` raises ValueError with what was expected."""

    flag_type: Any
    parse: Parse
    metavar: str | None = None


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option: its kind, its help, and whether a running daemon can change it (`live`)."""

    kind: Kind
    help: str
    panel: str
    live: bool = False
    default_text: str = ""
    negatable: bool = False


def option(kind: Kind, text: str, *, panel: str, **more: Any) -> Mapping[str, Option]:
    """Metadata of a dataclass field that is an option."""
    return {"option": Option(kind=kind, help=text, panel=panel, **more)}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
    size = int(float(match[1]) * SIZE_UNITS[match[2].upper()]) if match else 0
    if isinstance(value, bool) or size <= 0:
        raise ValueError("expected a size above 0 such as 500M or 2G")
    return size


def whole(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return Kind(flag_type=int, parse=parse)


def seconds(low: float, high: float) -> Kind:
    """A duration in seconds."""

    def parse(value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ValueError(f"expected seconds from {low:g} to {high:g}")
        return float(value)

    return Kind(flag_type=float, parse=parse, metavar="SECONDS")


def choice(*names: str) -> Kind:
    """One of `names`."""

    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return str(value)

    return Kind(flag_type=Literal[names], parse=parse)


def texts(fits: Callable[[str], object], expected: str) -> Kind:
    """A list of texts that all fit."""

    def parse(value: Any) -> tuple[str, ...]:
        listed = isinstance(value, list | tuple)
        if not listed or not all(isinstance(text, str) and fits(text) for text in value):
            raise ValueError(f"expected a list of {expected}")
        return tuple(value)

    return Kind(flag_type=list[str], parse=parse)


def _is_origin(text: str) -> bool:
    parts = urlsplit(text)
    return text == "*" or (parts.netloc != "" and text == f"{parts.scheme}://{parts.netloc}")


def _is_public_key(text: str) -> PublicKey | None:
    try:
        return parse_public_key(text)
    except ValueError:
        return None


def _path(value: Any) -> Path:
    return Path(_text(str(value) if isinstance(value, Path) else value))


def _device(value: Any) -> str:
    try:
        DeviceChoice.parse(_text(value))
    except ConfigError as error:
        raise ValueError(f"expected {EXPECTED_DEVICE}") from error
    return str(value)


TEXT = Kind(flag_type=str, parse=_text)
DEVICE = Kind(flag_type=str, parse=_device, metavar="DEVICE")
FLAG = Kind(flag_type=bool, parse=_flag)
ORIGINS = texts(_is_origin, "origins such as https://example.com:8080, or *")
HOSTS = texts(
    re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]+").fullmatch, "host names without port or brackets"
)
KEYS = texts(_is_public_key, f"public keys, each {EXPECTED_KEY}")
SIZE = Kind(flag_type=str, parse=_size, metavar="SIZE")
PATH = Kind(flag_type=Path, parse=_path)
NAMES = texts(re.compile(r"[\w./:@+-]{1,128}", re.ASCII).fullmatch, "names without blanks")
