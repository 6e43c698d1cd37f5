"""Training conversations: skills mixed over turns, an endless stream from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from models.pocket.training import arithmetic, capitals, conversions, recall, smalltalk, stories
from models.pocket.training.dialogue import Memory, Message, Turn, to_messages
from models.pocket.training.split import Split

SKILLS: dict[Callable[[random.Random], Turn], float] = {
    arithmetic.draw_turn: 8.0,
    capitals.draw_turn: 3.0,
    conversions.draw_turn: 2.0,
    stories.draw_turn: 0.8,
    smalltalk.draw_greeting: 1.0,
    smalltalk.draw_project: 1.5,
    smalltalk.draw_open_ended: 3.0,
    smalltalk.draw_foreign: 0.5,
}
_DRAWS, _WEIGHTS = list(SKILLS), list(SKILLS.values())
_ALL_TOPICS = (recall.NAME, *recall.TOPICS)


def skill_turn(rng: random.Random) -> Turn:
    """One turn that needs nothing of what was said before."""
    return rng.choices(_DRAWS, _WEIGHTS)[0](rng)


def _sums(rng: random.Random) -> list[Turn]:
    return [arithmetic.draw_turn(rng) for _ in range(rng.randint(1, 6))]


def _mixture(rng: random.Random) -> list[Turn]:
    turns = [skill_turn(rng) for _ in range(rng.choice((1, 1, 2, 3, 4, 5, 6)))]
    if rng.random() < 0.2:
        turns.insert(0, smalltalk.draw_greeting(rng))
    return turns


def _told_and_asked(rng: random.Random) -> list[Turn]:
    memory = Memory()
    topics = rng.sample(_ALL_TOPICS, rng.choice((1, 1, 2, 2, 3, 4)))
    turns: list[Turn] = []
    for topic in topics:
        if topic is not recall.NAME and rng.random() < 0.2:
            turns.append(recall.tell_two_turn(rng, memory, topic, Split.TRAIN))
        else:
            turns.append(recall.tell_turn(rng, memory, topic, Split.TRAIN))
        turns += [skill_turn(rng) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    if rng.random() < 0.1:
        turns.append(recall.tell_turn(rng, memory, rng.choice(topics), Split.TRAIN))
    asked = [_ALL_TOPICS[0] if rng.random() < 0.1 else t for t in topics]
    if rng.random() < 0.15:
        asked.append(rng.choice(_ALL_TOPICS))
    rng.shuffle(asked)
    for topic in asked:
        turns += [skill_turn(rng) for _ in range(rng.choice((0, 0, 0, 1)))]
        turns.append(recall.ask_turn(rng, memory, topic, Split.TRAIN))
    return turns


def _short(rng: random.Random) -> list[Turn]:
    return rng.choices((_sums, _mixture, _told_and_asked), (0.35, 0.3, 0.35))[0](rng)


def _long(rng: random.Random) -> list[Turn]:
    memory = Memory()
    turns: list[Turn] = []
    for _ in range(rng.randint(18, 34)):
        choice = rng.random()
        if choice < 0.2:
            topic = rng.choice(_ALL_TOPICS)
            turns.append(recall.tell_turn(rng, memory, topic, Split.TRAIN))
        elif choice < 0.5:
            known = [t for t in _ALL_TOPICS if t.name in memory.told]
            topic = rng.choice(known if known and rng.random() < 0.9 else _ALL_TOPICS)
            turns.append(recall.ask_turn(rng, memory, topic, Split.TRAIN))
        else:
            turns.append(skill_turn(rng))
    return turns


def draw_conversation(rng: random.Random, *, long: bool = False) -> list[Message]:
    """One training conversation: 1 to about 10 turns, or about 18 to 34 when `long`."""
    turns = _long(rng) if long else _short(rng)
    system = rng.choice(smalltalk.SYSTEM_PROMPTS) if rng.random() < 0.15 else None
    return to_messages(turns, system=system)


def stream(seed: int, *, long: bool = False) -> Iterator[list[Message]]:
    """Training conversations without end, the same for the same seed."""
    rng = random.Random(f"{seed}:{'long' if long else 'short'}")
    while True:
        yield draw_conversation(rng, long=long)
