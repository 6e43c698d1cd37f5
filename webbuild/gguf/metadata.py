"""Typed access to a GGUF file's metadata, which collects what is wrong with it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from webbuild.gguf.header import Value


class Metadata:
    """Fields by key; `problems` are those of the fields that were asked for."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values
        self.problems: list[str] = []

    def has(self, key: str) -> bool:
        """Whether there is such a field."""
        return key in self._values

    def integer(self, key: str, default: int | None = None) -> int:
        """A number from 0; 0 and a problem where it is missing and has no default."""
        value = self._values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self._note(key, "a number from 0")
        return 0

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number; 0 and a problem where it is missing and has no default."""
        value = self._values.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return shortest(float(value))
        self._note(key, "a number")
        return 0.0

    def text(self, key: str, default: str | None = None) -> str:
        """A text; empty and a problem where it is missing and has no default."""
        value = self._values.get(key, default)
        if isinstance(value, str):
            return value
        self._note(key, "a text")
        return ""

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._values.get(key, default)
        if isinstance(value, bool):
            return value
        self._note(key, "true or false")
        return default

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty and a problem where there is none."""
        value = self._values.get(key)
        if isinstance(value, list):
            return value
        self._note(key, "a list of texts")
        return []

    def numbers(self, key: str, count: int) -> Sequence[float]:
        """A list of `count` finite numbers; empty and a problem where there is none."""
        value = self._values.get(key)
        if isinstance(value, np.ndarray) and len(value) == count:
            numbers: list[float] = value.tolist()
            if all(map(math.isfinite, numbers)):
                return numbers
        self._note(key, f"a list of {count} numbers")
        return []

    def token(self, key: str, count: int) -> int | None:
        """A token's id below `count`, None where there is none."""
        if not self.has(key):
            return None
        value = self.integer(key)
        # Converters write the largest number for "no such token".
        if value in (0xFFFFFFFF, 0xFFFF_FFFF_FFFF_FFFF):
            return None
        if value >= count:
            self._note(key, f"a token id below {count}")
            return None
        return value

    def _note(self, key: str, expected: str) -> None:
        value = self._values.get(key)
        if value is None:
            shown = "missing"
        elif isinstance(value, list | np.ndarray):
            shown = f"a list of {len(value)}"
        else:
            shown = f"{value!r:.60}"
        self.problems.append(f"{key} is {shown}, expected {expected}")


def shortest(value: float) -> float:
    """The decimal number that a float32 stands for: 1e-05 rather than 9.999999747378752e-06."""
    return float(str(np.float32(value))) if float(np.float32(value)) == value else value
