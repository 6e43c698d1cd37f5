"""Conversions between units that come out as whole numbers."""

from __future__ import annotations

import random
from functools import cache
from typing import NamedTuple

from models.pocket.training.dialogue import Turn, Typing
from models.pocket.training.split import Phrasings, Split, side_of

NOT_WHOLE = "I can only convert when the result is a whole number."
WORDINGS = Phrasings(
    train=(
        "How many {to} are in {n} {of}?",
        "Convert {n} {of} to {to}.",
        "{n} {of} in {to}",
        "What is {n} {of} in {to}?",
        "How many {to} is {n} {of}?",
        "Convert {n} {of} into {to}.",
        "How much is {n} {of} in {to}?",
        "Change {n} {of} to {to}.",
        "{n} {of} to {to}",
        "Can you convert {n} {of} to {to}?",
        "Tell me {n} {of} in {to}.",
        "What's {n} {of} in {to}?",
        "How many {to} are there in {n} {of}?",
        "Please convert {n} {of} to {to}.",
        "Express {n} {of} in {to}.",
        "I have {n} {of}. How many {to} is that?",
    ),
    held_out=(
        "Could you convert {n} {of} to {to}?",
        "How many {to} make {n} {of}?",
        "Please tell me {n} {of} in {to}.",
        "Please change {n} {of} into {to}.",
    ),
)


class Unit(NamedTuple):
    """A unit's names: in full for one, for many, and short where there is a common one."""

    one: str
    many: str
    short: str | None = None


class Pair(NamedTuple):
    """`factor` small units make one big unit, asked about for 1 to `limit` big ones."""

    big: Unit
    small: Unit
    factor: int
    limit: int


M, CM, MM = (
    Unit("metre", "metres", "m"),
    Unit("centimetre", "centimetres", "cm"),
    Unit("millimetre", "millimetres", "mm"),
)
KM, KG, G = (
    Unit("kilometre", "kilometres", "km"),
    Unit("kilogram", "kilograms", "kg"),
    Unit("gram", "grams", "g"),
)
TON, LITRE, ML = (
    Unit("tonne", "tonnes"),
    Unit("litre", "litres", "l"),
    Unit("millilitre", "millilitres", "ml"),
)
SECOND, MINUTE, HOUR = Unit("second", "seconds"), Unit("minute", "minutes"), Unit("hour", "hours")
DAY, WEEK, MONTH, YEAR = (
    Unit("day", "days"),
    Unit("week", "weeks"),
    Unit("month", "months"),
    Unit("year", "years"),
)
PAIRS = (
    Pair(M, CM, 100, 99),
    Pair(CM, MM, 10, 99),
    Pair(M, MM, 1000, 99),
    Pair(KM, M, 1000, 99),
    Pair(KG, G, 1000, 99),
    Pair(TON, KG, 1000, 99),
    Pair(LITRE, ML, 1000, 99),
    Pair(HOUR, MINUTE, 60, 24),
    Pair(MINUTE, SECOND, 60, 60),
    Pair(DAY, HOUR, 24, 14),
    Pair(WEEK, DAY, 7, 20),
    Pair(YEAR, MONTH, 12, 20),
)


class Conversion(NamedTuple):
    """`n` of one unit is `result` of another."""

    n: int
    of: Unit
    to: Unit
    result: int

    @property
    def answer(self) -> str:
        """The answer as the model says it, with the units in full."""
        of = self.of.one if self.n == 1 else self.of.many
        to = self.to.one if self.result == 1 else self.to.many
        return f"{self.n} {of} is {self.result} {to}."


def _conversions_of(pair: Pair) -> list[tuple[Split, Conversion]]:
    found: list[tuple[Split, Conversion]] = []
    for n in range(1, pair.limit + 1):
        down = Conversion(n, pair.big, pair.small, n * pair.factor)
        up = Conversion(n * pair.factor, pair.small, pair.big, n)
        for item in (down, up):
            key = (item.n, item.of.one, item.to.one)
            # Only powers of ten follow from a rule that a model this small can learn; the tables
            # of 60, 24, 12 and 7 it must have seen.
            rule = pair.factor % 10 == 0 and pair.factor != 60
            found.append((side_of("conversion", key) if rule else Split.TRAIN, item))
    return found


@cache
def conversions(split: Split) -> list[list[Conversion]]:
    """The conversions of one side, a list for each pair of units that has any."""
    per_pair = [[c for side, c in _conversions_of(p) if side is split] for p in PAIRS]
    return [items for items in per_pair if items]


def word_conversion(rng: random.Random, conversion: Conversion, *, wording: Split) -> str:
    """A request for `conversion`, with short or full unit names."""
    text = WORDINGS.draw(rng, wording)
    short = rng.random() < 0.4
    of = conversion.of.one if conversion.n == 1 else conversion.of.many
    to = conversion.to.many
    if short:
        of, to = conversion.of.short or of, conversion.to.short or to
    return text.format(n=conversion.n, of=of, to=to)


def _not_whole(rng: random.Random) -> Turn:
    pair = rng.choice(PAIRS)
    n = rng.randrange(1, pair.factor * min(pair.limit, 20))
    n += n % pair.factor == 0
    asked = Conversion(n, pair.small, pair.big, 0)
    text = word_conversion(rng, asked, wording=Split.TRAIN)
    return Turn(Typing.draw(rng).apply(text), NOT_WHOLE)


def draw_turn(rng: random.Random) -> Turn:
    """A random training conversion with its answer; now and then one that is not whole."""
    if rng.random() < 0.06:
        return _not_whole(rng)
    conversion = rng.choice(rng.choice(conversions(Split.TRAIN)))
    user = Typing.draw(rng).apply(word_conversion(rng, conversion, wording=Split.TRAIN))
    return Turn(user, conversion.answer)
