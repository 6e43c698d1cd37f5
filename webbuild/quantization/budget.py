"""Formats for a size: those of all weights together that leave the least error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import ConfigError
from webbuild.quantization.formats import TensorFormat

UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}
UNITS_OF_ROOM = 4096


@dataclass(frozen=True)
class Choice:
    """A way to store a weight: how many bytes it takes, and how much error is left."""

    format: TensorFormat
    bytes: int
    error: float


def parse_size(text: str) -> int:
    """Bytes of "95MB", "1.2GiB" or "95000000"; raises ConfigError."""
    unit = text.lstrip("0123456789.").strip()
    number = text.removesuffix(unit).strip()
    try:
        size = int(float(number) * UNITS[unit.upper() or "B"])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size <= 0:
        raise ConfigError(f"--size {text!r}: write a size such as 95MB, 1.2GB or 900MiB.")
    return size


def fit(
    choices: Mapping[str, Sequence[Choice]], *, fixed: int, size: int
) -> dict[str, TensorFormat]:
    """The format of each weight, by its name: least error of all together in at most `size` bytes.

    `fixed` bytes are needed by whatever has no choice. Bytes above the smallest choices' are counted in
    4096ths of what is left, rounded up. Raises ConfigError if nothing fits.
    """
    smallest = {name: min(choice.bytes for choice in each) for name, each in choices.items()}
    room = size - fixed - sum(smallest.values())
    if room < 0:
        raise ConfigError(
            f"--size asks for {size:,} bytes, and the weights take {size - room:,} at least: ask for that or "
            "more, or build a smaller model."
        )
    unit = max(1, -(-room // UNITS_OF_ROOM))
    # The least error of the weights so far, by how many units they may take.
    least = np.zeros(room // unit + 1)
    picks: list[npt.NDArray[np.int8]] = []
    for name, each in choices.items():
        options = np.stack(
            [_shifted(least, -(-(c.bytes - smallest[name]) // unit)) + c.error for c in each]
        )
        picks.append(options.argmin(axis=0).astype(np.int8))
        least = options.min(axis=0)
    left = len(least) - 1
    found = {}
    for (name, each), pick in zip(reversed(choices.items()), reversed(picks), strict=True):
        choice = each[pick[left]]
        left -= -(-(choice.bytes - smallest[name]) // unit)
        found[name] = choice.format
    return found


def _shifted(least: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """What is left of the room after `count` units: infinite error where there aren't so many."""
    shifted = np.full_like(least, np.inf)
    if count < len(least):
        shifted[count:] = least[: len(least) - count]
    return shifted
