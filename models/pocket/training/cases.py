"""The held-out set: items and wordings that training never sees, and what counts as right."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from models.pocket.training import arithmetic, capitals, conversions, recall, smalltalk, stories
from models.pocket.training.conversations import skill_turn
from models.pocket.training.dialogue import PLAIN, Memory, Message, Turn, Typing, to_messages
from models.pocket.training.split import Split

SEED = 20240229


@dataclass(frozen=True)
class Case:
    """A conversation that ends with a question, and what the answer has to contain."""

    task: str
    messages: tuple[Message, ...]
    expected: str


def _case(task: str, turns: list[Turn], question: str, expected: str) -> Case:
    messages = to_messages(turns)
    messages.append({"role": "user", "content": question})
    return Case(task, tuple(messages), expected)


def _typing(rng: random.Random) -> Typing:
    return Typing.draw(rng) if rng.random() < 0.5 else PLAIN


def _wording(rng: random.Random) -> Split:
    return rng.choice((Split.TRAIN, Split.HELD_OUT))


def _before(rng: random.Random) -> list[Turn]:
    return [skill_turn(rng) for _ in range(rng.choice((0, 0, 1, 2)))]


def _arithmetic(rng: random.Random, number: int) -> Case:
    problem = rng.choice(arithmetic.problems(Split.HELD_OUT))
    text = arithmetic.word_problem(rng, problem, wording=_wording(rng))
    return _case("arithmetic", _before(rng), _typing(rng).apply(text), str(problem.result))


def _capitals(rng: random.Random, number: int) -> Case:
    country = capitals.COUNTRIES[number % len(capitals.COUNTRIES)]
    text = capitals.word_question(rng, country, wording=Split.HELD_OUT)
    expected = capitals.CAPITALS[country]
    return _case("capitals", _before(rng), _typing(rng).apply(text), expected)


def _recalled(rng: random.Random, task: str, topic: recall.Topic) -> Case:
    memory = Memory()
    others = [t for t in (recall.NAME, *recall.TOPICS) if t is not topic]
    told = [topic, rng.choice(others)]
    rng.shuffle(told)
    turns: list[Turn] = []
    for each in told:
        turns.append(recall.tell_turn(rng, memory, each, Split.HELD_OUT))
        turns += [skill_turn(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
    asked = recall.ask_turn(rng, memory, topic, _wording(rng))
    return _case(task, turns, asked.user, memory.told[topic.name])


def _names(rng: random.Random, number: int) -> Case:
    return _recalled(rng, "names", recall.NAME)


def _facts(rng: random.Random, number: int) -> Case:
    return _recalled(rng, "facts", recall.TOPICS[number % len(recall.TOPICS)])


def _conversions(rng: random.Random, number: int) -> Case:
    groups = conversions.conversions(Split.HELD_OUT)
    conversion = rng.choice(groups[number % len(groups)])
    text = conversions.word_conversion(rng, conversion, wording=_wording(rng))
    unit = conversion.to.one if conversion.result == 1 else conversion.to.many
    return _case(
        "conversions", _before(rng), _typing(rng).apply(text), f"{conversion.result} {unit}"
    )


def _stories(rng: random.Random, number: int) -> Case:
    subject = rng.choice(stories.subjects(Split.HELD_OUT))
    text = stories.word_request(rng, subject, wording=_wording(rng))
    return _case("stories", _before(rng), _typing(rng).apply(text), subject)


def _smalltalk(rng: random.Random, number: int) -> Case:
    subjects = (*smalltalk.GREETINGS, *smalltalk.PROJECT)
    subject = subjects[number % len(subjects)]
    text = subject.wordings.draw(rng, Split.HELD_OUT)
    return _case("smalltalk", _before(rng), text, subject.key)


def _open_ended(rng: random.Random, number: int) -> Case:
    text = smalltalk.word_open_ended(rng, wording=Split.HELD_OUT)
    return _case("open-ended", _before(rng), _typing(rng).apply(text), smalltalk.REFUSAL_KEY)


_MAKERS: dict[str, Callable[[random.Random, int], Case]] = {
    "arithmetic": _arithmetic,
    "capitals": _capitals,
    "names": _names,
    "facts": _facts,
    "conversions": _conversions,
    "stories": _stories,
    "smalltalk": _smalltalk,
    "open-ended": _open_ended,
}
TASKS = tuple(_MAKERS)


def held_out_cases(*, per_task: int, tasks: tuple[str, ...] = TASKS) -> list[Case]:
    """The first `per_task` held-out cases of each task; always the same ones."""
    cases: list[Case] = []
    for task in tasks:
        rng = random.Random(f"{SEED}:{task}")
        cases += [_MAKERS[task](rng, number) for number in range(per_task)]
    return cases


def is_right(case: Case, answer: str) -> bool:
    """Whether `answer` solves `case`."""
    if case.task == "arithmetic":
        return re.findall(r"-?\d+", answer)[-1:] == [case.expected]
    found = re.search(rf"(?<!\w){re.escape(case.expected)}(?!\w)", answer, re.IGNORECASE)
    if case.task == "stories":
        return found is not None and 3 <= len(re.findall(r"[.!?](?:\s|$)", answer)) <= 5
    return found is not None
