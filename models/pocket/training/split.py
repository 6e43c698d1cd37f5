"""Which items belong to training and which are held out: a hash decides, so it never moves."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from enum import Enum
from typing import TypeVar

T = TypeVar("T")
HELD_OUT_SHARE = 10


class Split(Enum):
    """The two sides that share no item."""

    TRAIN = "train"
    HELD_OUT = "held_out"


def side_of(kind: str, item: object) -> Split:
    """The side an item is on: one of ten is held out, whatever the seed."""
    digest = hashlib.blake2b(f"{kind}:{item}".encode(), digest_size=8).digest()
    held_out = int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0
    return Split.HELD_OUT if held_out else Split.TRAIN


def items_of(split: Split, kind: str, items: Sequence[T]) -> list[T]:
    """The items of one side, in their order."""
    return [item for item in items if side_of(kind, item) is split]


class Phrasings:
    """Ways to word one request: the first list is trained on, the second never."""

    def __init__(self, train: Sequence[str], held_out: Sequence[str]) -> None:
        overlap = set(train) & set(held_out)
        if overlap:
            raise ValueError(f"phrasings on both sides: {sorted(overlap)}; keep each on one")
        self._sides = {Split.TRAIN: tuple(train), Split.HELD_OUT: tuple(held_out)}

    def of(self, split: Split) -> tuple[str, ...]:
        """All phrasings of one side."""
        return self._sides[split]

    def draw(self, rng: random.Random, split: Split) -> str:
        """One phrasing of one side."""
        return rng.choice(self._sides[split])
