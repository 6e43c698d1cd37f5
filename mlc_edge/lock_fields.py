"""Typed fields of a lock's JSON: names that can be shown, paths that stay inside."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

MAX_TOLD = 10
# Beyond it, browsers don't tell whole numbers apart.
MAX_COUNT = 2**53 - 1
# What a path, put into a URL as it is, would end at.
URL_SYNTAX = re.compile("[?#%]")


class LockReader:
    """Reads typed fields of parsed JSON and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def get(self, source: Any, name: str, kind: type, where: str) -> Any:
        """`source[name]` if it is a `kind`, else an empty `kind` and a problem.

        An int is a whole number from 0 to MAX_COUNT, however it is written: to a browser 1.0 is 1.
        """
        label = f"{where}.{name}" if where else name
        value = source.get(name) if isinstance(source, dict) else None
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        wrong_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or wrong_bool:
            got = "is missing" if value is None else f"is {value!r:.60}"
            self.problems.append(f"{label} {got}, expected {kind.__name__}")
            return kind()
        if isinstance(value, int) and not 0 <= value <= MAX_COUNT:
            self.problems.append(f"{label} is {value!r:.60}, expected 0 to {MAX_COUNT}")
        return value

    def name(self, source: Any, name: str, where: str) -> str:
        """A text that people are shown: what it holds is held to `check_name`."""
        known = len(self.problems)
        value: str = self.get(source, name, str, where)
        if len(self.problems) == known:
            self.check_name(value, f"{where}.{name}")
        return value

    def check_name(self, value: Any, label: str) -> None:
        """Names reach terminals, logs and file systems: no control characters, no half of a pair."""
        if not isinstance(value, str) or not value or not value.isprintable():
            self.problems.append(f"{label} is {value!r:.80}, expected printable characters")

    def path(self, source: Any, name: str, where: str) -> str:
        """A file's path inside of the bundle."""
        known = len(self.problems)
        value: str = self.get(source, name, str, where)
        if len(self.problems) == known and not is_url_path(value):
            self.problems.append(f"{where}.{name} {value!r:.80} is not a path inside the bundle")
        return value


def is_safe_path(path: str) -> bool:
    """Whether `path` is relative, normalised and free of anything that could leave its folder."""
    pure = PurePosixPath(path)
    return (
        bool(path)
        and not pure.is_absolute()
        and str(pure) == path
        and ".." not in pure.parts
        and path != "."
        and not re.search(r"[\\:\x00-\x1f\x7f]", path)
    )


def is_url_path(path: str) -> bool:
    """Whether `path` is safe, can be shown, and is itself when it is put into a URL."""
    return path.isprintable() and is_safe_path(path) and not URL_SYNTAX.search(path)


def is_file_name(name: Any) -> bool:
    """Whether `name`, of whatever type, can name a file right inside a folder, and be shown."""
    return isinstance(name, str) and name.isprintable() and is_safe_path(name) and "/" not in name


def told(problems: Iterable[str]) -> str:
    """The first problems on one line, what can't be printed escaped, and how many more there are."""
    problems = list(problems)
    more = len(problems) - MAX_TOLD
    first = problems[:MAX_TOLD] + ([f"and {more} more"] if more > 0 else [])
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in "; ".join(first))
