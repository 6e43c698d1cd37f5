"""Formats for a size: where a byte takes most of the error away, weight by weight."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
    """The format of each weight, by its name, so that all together have at most `size` bytes.

    `fixed` bytes are needed by whatever has no choice. Weights begin with their smallest choice; then the
    step that takes away most error a byte is taken, while one fits. Raises ConfigError if nothing fits.
    """
    ladders = {name: _ladder(each) for name, each in choices.items()}
    total = fixed + sum(ladder[0].bytes for ladder in ladders.values())
    if total > size:
        raise ConfigError(
            f"--size asks for {size:,} bytes, and the weights take {total:,} at least: ask for that or "
            "more, or build a smaller model."
        )
    place = dict.fromkeys(ladders, 0)
    steps = [_step(name, ladder, 0) for name, ladder in ladders.items() if len(ladder) > 1]
    heapq.heapify(steps)
    while steps:
        _, name, more = heapq.heappop(steps)
        if total + more > size:
            continue
        total += more
        place[name] += 1
        if place[name] + 1 < len(ladders[name]):
            heapq.heappush(steps, _step(name, ladders[name], place[name]))
    return {name: ladder[place[name]].format for name, ladder in ladders.items()}


def _step(name: str, ladder: Sequence[Choice], index: int) -> tuple[float, str, int]:
    """Least is best: error taken away for each byte, negative; then by name, for one result."""
    here, there = ladder[index], ladder[index + 1]
    more = there.bytes - here.bytes
    return (there.error - here.error) / more, name, more


def _ladder(choices: Iterable[Choice]) -> list[Choice]:
    """Those worth their bytes, smallest first: each step takes away less error a byte than the one before."""
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda each: (each.bytes, each.error)):
        if kept and choice.error >= kept[-1].error:
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) >= _slope(kept[-2], choice):
            kept.pop()
        kept.append(choice)
    return kept


def _slope(here: Choice, there: Choice) -> float:
    return (there.error - here.error) / (there.bytes - here.bytes)
