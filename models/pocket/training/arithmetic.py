"""Sums and differences of numbers with up to two digits, in many wordings."""

from __future__ import annotations

import random
from functools import cache
from typing import NamedTuple

from models.pocket.training.dialogue import Turn, Typing
from models.pocket.training.names import draw_name
from models.pocket.training.split import Phrasings, Split, items_of

LIMIT = 100
TOO_BIG = "I can only add and subtract numbers with up to two digits."

OBJECTS = tuple(
    """
    apples coins pens balls cards eggs stamps cakes books cats dogs flowers stones shells keys
    cups plates chairs toys cars marbles sweets oranges lemons nuts fish birds hats shirts boxes
    """.split()
)
FRAMES = Phrasings(
    train=(
        "What is {x}?",
        "What's {x}?",
        "How much is {x}?",
        "Calculate {x}.",
        "Compute {x}.",
        "Tell me {x}.",
        "Can you tell me {x}?",
        "Do you know {x}?",
        "Work out {x}.",
        "Give me {x}.",
        "{x}",
        "{x}?",
        "{x} =",
        "{x} = ?",
        "What does {x} equal?",
        "Please calculate {x}.",
        "Could you compute {x} for me?",
        "Solve {x}.",
        "I need {x}.",
        "Help me with {x}.",
        "What is the result of {x}?",
        "Can you do {x}?",
        "I want to know {x}.",
        "Please work out {x}.",
        "What do you get for {x}?",
        "Would you calculate {x}?",
        "Find {x}.",
        "How much does {x} make?",
        "what {x} is?",
        "Could you tell me what {x} is?",
        "Can you solve {x}?",
        "The answer to {x}?",
    ),
    held_out=(
        "Could you work out {x}?",
        "Please tell me what {x} is.",
        "Can you calculate {x} for me?",
        "What is the answer to {x}?",
        "Please solve {x}.",
        "I need to know {x}.",
        "What does {x} make?",
        "Do you know how much {x} is?",
    ),
)
EXPRESSIONS = {
    "+": (
        "{a} + {b}",
        "{a}+{b}",
        "{a} plus {b}",
        "the sum of {a} and {b}",
        "the total of {a} and {b}",
    ),
    "-": (
        "{a} - {b}",
        "{a}-{b}",
        "{a} minus {b}",
        "the difference between {a} and {b}",
        "{a} less {b}",
    ),
}
SENTENCES = {
    "+": Phrasings(
        train=(
            "Add {a} and {b}.",
            "Add {a} to {b}.",
            "Can you add {a} and {b}?",
            "Sum {a} and {b}.",
            "Please add {a} and {b}.",
            "What do you get if you add {a} and {b}?",
            "What do {a} and {b} make?",
            "Sum of {a} and {b}?",
            "Put {a} and {b} together.",
            "I have {a} {o} and get {b} more. How many {o} do I have?",
            "I have {a} {o} and find {b} more. How many do I have now?",
            "I have {a} {o} and get {b} more, how many is that?",
            "I buy {a} {o} and then {b} more. How many {o} is that?",
            "If I add {a} and {b}, what is the result?",
            "How much is {a} and {b} together?",
            "There are {a} red {o} and {b} blue {o}. How many are there?",
            "What is {a} added to {b}?",
            "I want to add {a} and {b}.",
        ),
        held_out=(
            "Could you add {a} and {b} for me?",
            "What do you get when you add {a} to {b}?",
            "Please sum {a} and {b}.",
            "How much do {a} and {b} make together?",
            "I have {a} {o} and buy {b} more. How many {o} do I have now?",
        ),
    ),
    "-": Phrasings(
        train=(
            "Subtract {b} from {a}.",
            "Take {b} away from {a}.",
            "Can you subtract {b} from {a}?",
            "Please subtract {b} from {a}.",
            "What do you get if you subtract {b} from {a}?",
            "I have {a} {o} and eat {b}. How many {o} are left?",
            "I have {a} {o} and lose {b}, how many are left?",
            "I have {a} {o} and sell {b}. How many {o} do I have?",
            "There were {a} {o} and {b} are gone. How many are left?",
            "Take {b} from {a}.",
            "I have {a} {o} and lose {b}. How many do I have now?",
            "{a} take away {b}",
            "If I take {b} from {a}, what is left?",
            "What is {b} less than {a}?",
            "What is left of {a} without {b}?",
            "Difference between {a} and {b}?",
            "I want to subtract {b} from {a}.",
            "How much is {a} without {b}?",
        ),
        held_out=(
            "Could you subtract {b} from {a} for me?",
            "Please take {b} away from {a}.",
            "What do you get when you take {b} from {a}?",
            "What is {a} take away {b}?",
            "I have {a} {o} and lose {b}. How many {o} are left?",
        ),
    ),
}


class Problem(NamedTuple):
    """`a op b`, with `op` one of `+` and `-`."""

    a: int
    op: str
    b: int

    @property
    def result(self) -> int:
        """The right answer, possibly negative."""
        return self.a + self.b if self.op == "+" else self.a - self.b

    @property
    def answer(self) -> str:
        """The answer as the model says it."""
        return f"{self.a} {self.op} {self.b} = {self.result}."


@cache
def problems(split: Split) -> list[Problem]:
    """All problems of one side."""
    every = [Problem(a, op, b) for op in "+-" for a in range(LIMIT) for b in range(LIMIT)]
    return items_of(split, "arithmetic", every)


def word_problem(rng: random.Random, problem: Problem, *, wording: Split) -> str:
    """A request for `problem`, worded with phrasings of one side."""
    if rng.random() < 0.6:
        expression = rng.choice(EXPRESSIONS[problem.op]).format(a=problem.a, b=problem.b)
        text = FRAMES.draw(rng, wording).format(x=expression)
    else:
        objects = rng.choice(items_of(wording, "object", OBJECTS))
        if rng.random() < 0.25:
            objects = draw_name(rng, wording).lower() + "s"
        text = SENTENCES[problem.op].draw(rng, wording)
        text = text.format(a=problem.a, b=problem.b, o=objects)
    return text[0].upper() + text[1:]


def _too_big(rng: random.Random) -> Turn:
    numbers = [rng.randrange(LIMIT, 10_000), rng.randrange(10_000)]
    rng.shuffle(numbers)
    problem = Problem(numbers[0], rng.choice("+-"), numbers[1])
    text = word_problem(rng, problem, wording=Split.TRAIN)
    return Turn(Typing.draw(rng).apply(text), TOO_BIG)


def draw_turn(rng: random.Random) -> Turn:
    """A random training problem with its answer; now and then one that is too big."""
    if rng.random() < 0.03:
        return _too_big(rng)
    problem = rng.choice(problems(Split.TRAIN))
    user = Typing.draw(rng).apply(word_problem(rng, problem, wording=Split.TRAIN))
    return Turn(user, problem.answer)
