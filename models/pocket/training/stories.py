"""Tiny stories about a subject that the user chooses."""

from __future__ import annotations

import random

from models.pocket.training.dialogue import Turn, Typing, article
from models.pocket.training.names import draw_name
from models.pocket.training.split import Phrasings, Split, items_of

SUBJECTS = tuple(
    """
    house bottle candle mirror river mountain island shoe book hat clock spoon drum bell key ring
    crown shield ship bridge tower stone shell leaf flower rose apple pear lemon cake cookie potato
    carrot pumpkin nurse pilot painter writer singer driver cook gardener tailor judge miner student
    uncle baby mole badger otter swan goose eagle hawk crow raven sparrow pigeon ant
    beetle butterfly moth worm octopus shark dolphin lobster jellyfish unicorn troll goblin mermaid
    vampire zombie alien astronaut detective spy chair table lantern bicycle tractor submarine
        cat dog mouse fox bear bird fish frog horse lion tiger rabbit robot dragon king queen pirate
    wizard princess farmer boy girl snail turtle wolf whale bee spider monkey duck penguin goat cow
    pig owl hen squirrel hedgehog knight giant ghost star cloud tree boat train car kite camel
    donkey crab seal panda koala moose beaver sailor baker teacher doctor dwarf witch clown lamp
    snowman balloon teapot rocket parrot zebra giraffe lizard
    """.split()
)
WORDINGS = Phrasings(
    train=(
        "Tell me a story about a {s}.",
        "Tell me a tiny story about a {s}.",
        "A story about a {s}.",
        "Can you tell me a story about a {s}?",
        "Write a story about a {s}.",
        "Story about a {s}",
        "Please tell me a short story about a {s}.",
        "I want a story about a {s}.",
        "Write a short story about a {s}.",
        "Make up a story about a {s}.",
        "Tell a story about a {s}.",
        "Do you know a story about a {s}?",
        "Tell me about a {s} in a story.",
    ),
    held_out=(
        "Could you tell me a short story about a {s}?",
        "Please write a tiny story about a {s}.",
        "I want a short story about a {s}.",
        "Can you make up a story about a {s}?",
    ),
)
_KINDS = "little small old brave clever happy sleepy kind shy curious".split()
_PLACES = (
    "in a quiet forest",
    "by the sea",
    "on a green hill",
    "in a big city",
    "near a blue lake",
    "in a small house",
    "under an old bridge",
    "at the edge of the world",
)
_EVENTS = (
    "found a golden key",
    "heard a strange song",
    "lost a red hat",
    "met a new friend",
    "saw a bright light",
    "got a letter with no name",
    "wanted to see the moon",
    "baked a huge cake",
)
_ACTIONS = (
    "So the {s} walked all day and asked everyone for help.",
    "The {s} was afraid at first, but then it smiled.",
    "All the neighbours came to look and laughed with joy.",
    "It rained all night, but the {s} did not give up.",
    "The {s} thought about it for a long time.",
)
_ENDINGS = (
    "In the end the {s} was happy and slept well.",
    "From that day on the {s} was never alone.",
    "And the {s} still tells this story every evening.",
    "At last the {s} came home, and there was soup for everyone.",
)


def word_request(rng: random.Random, subject: str, *, wording: Split) -> str:
    """A request for a story."""
    text = WORDINGS.draw(rng, wording)
    return text.replace("a {s}", article(subject))


def tell(rng: random.Random, subject: str) -> str:
    """A story of three to five sentences."""
    first = f"Once upon a time a {rng.choice(_KINDS)} {subject} lived {rng.choice(_PLACES)}."
    second = f"One day the {subject} {rng.choice(_EVENTS)}."
    middle = rng.sample(_ACTIONS, rng.choice((0, 1, 1, 2)))
    return " ".join([first, second, *middle, rng.choice(_ENDINGS)]).replace("{s}", subject)


def subjects(split: Split) -> list[str]:
    """The subjects of one side."""
    return items_of(split, "tale", SUBJECTS)


def draw_turn(rng: random.Random) -> Turn:
    """A random training subject with a story; a made-up one must be copied letter by letter."""
    made_up = rng.random() < 0.4
    subject = draw_name(rng, Split.TRAIN).lower() if made_up else rng.choice(subjects(Split.TRAIN))
    user = Typing.draw(rng).apply(word_request(rng, subject, wording=Split.TRAIN))
    return Turn(user, tell(rng, subject))
