"""Telling and recalling: the user's name and facts, copied from earlier in the conversation."""

from __future__ import annotations

import random
from dataclasses import dataclass

from models.pocket.training.capitals import CAPITALS
from models.pocket.training.dialogue import Memory, Turn, Typing, article
from models.pocket.training.names import draw_name
from models.pocket.training.split import Phrasings, Split, items_of


@dataclass(frozen=True)
class Topic:
    """One thing a user may tell: how it is told, asked, confirmed; `values` empty means a name."""

    name: str
    tell: Phrasings
    ask: Phrasings
    statement: str
    missing: str
    values: tuple[str, ...] = ()
    made_up_share: float = 0.0

    def draw_value(self, rng: random.Random, split: Split) -> str:
        """A value of one side of the split."""
        if not self.values or rng.random() < self.made_up_share:
            return draw_name(rng, split)
        return rng.choice(items_of(split, self.name, self.values) or self.values)


NAME = Topic(
    name="name",
    tell=Phrasings(
        train=(
            "My name is {v}.",
            "I am {v}.",
            "I'm {v}.",
            "Call me {v}.",
            "Hi, I am {v}.",
            "Hello, my name is {v}.",
            "Hi! I'm {v}.",
            "You can call me {v}.",
            "Hello! I am {v}.",
            "People call me {v}.",
            "The name is {v}.",
            "My name's {v}.",
            "Please call me {v}.",
            "Hey, it's {v}.",
            "My friends call me {v}.",
            "Remember that my name is {v}.",
            "Good morning, I am {v}.",
            "Hi there, my name is {v}.",
            "I am called {v}.",
            "Actually, my name is {v}.",
            "No, my name is {v}.",
        ),
        held_out=(
            "Good evening, my name is {v}.",
            "Hey there, I'm {v}.",
            "Please remember my name is {v}.",
            "Hello there, call me {v}.",
        ),
    ),
    ask=Phrasings(
        train=(
            "What is my name?",
            "What's my name?",
            "Do you remember my name?",
            "Who am I?",
            "Do you know my name?",
            "Tell me my name.",
            "Can you tell me my name?",
            "My name?",
            "Say my name.",
            "What was my name?",
            "Do you know who I am?",
            "What did I say my name is?",
            "What is my name again?",
            "Do you still know who I am?",
            "What am I called?",
            "Please tell me my name.",
            "Remind me of my name.",
        ),
        held_out=(
            "Can you remember my name?",
            "Do you still know my name?",
            "What was my name again?",
            "Could you tell me my name?",
        ),
    ),
    statement="your name is {v}",
    missing="your name",
)


def _favourite(thing: str, values: str) -> Topic:
    said, american = f"favourite {thing}", thing.replace("colour", "color")
    return Topic(
        name=thing,
        tell=Phrasings(
            train=(
                f"My {said} is {{v}}.",
                f"My favorite {thing} is {{v}}!",
                f"Remember that my {said} is {{v}}.",
                f"The {thing} I like most is {{v}}.",
                f"My {said}? It is {{v}}.",
                f"I think my {said} is {{v}}.",
                f"For me the best {thing} is {{v}}.",
                f"You should know that my {said} is {{v}}.",
                f"As for my {said}, it is {{v}}.",
                f"My favorite {american} is {{v}}.",
                f"Actually, my {said} is {{v}}.",
            ),
            held_out=(
                f"Please remember that my {said} is {{v}}.",
                f"I think the best {thing} is {{v}}.",
                f"You should know the {thing} I like most is {{v}}.",
            ),
        ),
        ask=Phrasings(
            train=(
                f"What is my {said}?",
                f"What's my {said}?",
                f"Do you remember my {said}?",
                f"Which {thing} do I like most?",
                f"Tell me my {said}.",
                f"What is my favorite {american}?",
                f"What's my favorite {american}?",
                f"What did I say my {said} is?",
                f"What is my {said} again?",
                f"Do you know my {said}?",
                f"Can you tell me my {said}?",
                f"My {said}?",
                f"What was my {said}?",
                f"Which {thing} is my favourite?",
            ),
            held_out=(
                f"Can you remember my {said}?",
                f"Do you still know my {said}?",
                f"What was my {said} again?",
                f"Could you tell me my favorite {american}?",
            ),
        ),
        statement=f"your {said} is {{v}}",
        missing=f"your {said}",
        values=tuple(values.split("|")),
        made_up_share=0.25,
    )


def _possession(
    name: str, tell: str, ask: str, statement: str, missing: str, values: str, made_up: float
) -> Topic:
    return Topic(
        name=name,
        tell=Phrasings(*_sides(tell)),
        ask=Phrasings(*_sides(ask)),
        statement=statement,
        missing=missing,
        values=tuple(values.split("|")) if values else (),
        made_up_share=made_up,
    )


def _sides(text: str) -> tuple[list[str], list[str]]:
    train, held_out = text.split(" || ")
    return train.split(" | "), held_out.split(" | ")


_COLOURS = (
    "red|blue|green|yellow|orange|purple|pink|black|white|grey|brown|teal|violet|gold|silver|cyan|"
    "navy|maroon|olive|turquoise|dark green|dark blue|light blue|light green|dark red|magenta|"
    "beige|crimson|indigo|ivory|lilac|coral|lime|mint|peach|scarlet|amber|bronze|copper|cream"
)
_PETS = (
    "cat|dog|hamster|rabbit|parrot|goldfish|turtle|snake|horse|pony|ferret|lizard|duck|goat|pig|"
    "mouse|rat|canary|gecko|hedgehog|spider|chicken|sheep|donkey|frog|budgie|llama|tortoise|"
    "alpaca|iguana|owl|eel|otter"
)
_HOBBIES = (
    "chess|painting|running|swimming|reading|cooking|hiking|knitting|gardening|dancing|singing|"
    "cycling|fishing|sailing|climbing|skiing|drawing|baking|pottery|photography|yoga|juggling|"
    "surfing|writing|camping|astronomy|origami|archery|rowing|bird watching"
)
_FOODS = (
    "pizza|pasta|sushi|rice|soup|bread|cheese|curry|salad|noodles|pancakes|tacos|chocolate|apples|"
    "bananas|cake|fish|potatoes|tomatoes|dumplings|risotto|falafel|ramen|lasagne|cherries|mango|"
    "waffles|burritos|couscous|ice cream"
)
_JOBS = (
    "teacher|doctor|nurse|baker|farmer|pilot|painter|writer|driver|cook|gardener|plumber|dentist|"
    "lawyer|singer|carpenter|librarian|scientist|programmer|waiter|tailor|sailor|judge|miner|"
    "mechanic|musician|journalist|barber|engineer|artist|actor|electrician|architect|editor"
)
TOPICS = (
    _favourite("colour", _COLOURS),
    _favourite("food", _FOODS),
    _favourite("number", "|".join(str(n) for n in range(100))),
    _favourite("animal", _PETS),
    _favourite("city", "|".join(dict.fromkeys(CAPITALS.values()))),
    _possession(
        "pet",
        "I have a {v}. | I have a pet {v}. | My pet is a {v}. | I own a {v}. | "
        "At home I have a {v}. | I have a {v} as a pet. || At home I have a pet {v}. | "
        "I own a pet {v}.",
        "What pet do I have? | Which pet do I have? | What is my pet? | Do you remember my pet? | "
        "What kind of pet do I have? | Which animal do I have? | What pet do I own? || "
        "Do you remember what pet I have? | Tell me what pet I have.",
        "you have a {v}",
        "what pet you have",
        _PETS,
        0.05,
    ),
    _possession(
        "pet name",
        "My pet is called {v}. | My dog is called {v}. | My cat is called {v}. | "
        "The name of my pet is {v}. | My pet's name is {v}. | My dog's name is {v}. | "
        "I have a cat called {v}. || The name of my dog is {v}. | My cat's name is {v}.",
        "What is my pet called? | What is the name of my pet? | What's my pet's name? | "
        "Do you remember the name of my pet? | How is my pet called? | My pet's name? | "
        "What is my dog called? | What is my cat called? | What is my dog's name? | "
        "What's my cat's name? || "
        "Do you know the name of my pet? | Tell me the name of my pet.",
        "your pet is called {v}",
        "what your pet is called",
        "",
        0.0,
    ),
    _possession(
        "home",
        "I live in {v}. | My home is in {v}. | I come from {v}. | I am from {v}. | "
        "My home town is {v}. | I'm from {v}. | I have a flat in {v}. || "
        "My home town? It is {v}. | "
        "Remember that I live in {v}.",
        "Where do I live? | Where am I from? | Which city do I live in? | "
        "What city do I live in? | Do you remember where I live? | Do you know where I live? | "
        "Tell me where I live. | "
        "In which city do I live? || Can you tell me where I live? | What is the city I live in?",
        "you live in {v}",
        "where you live",
        "|".join(dict.fromkeys(CAPITALS.values())),
        0.5,
    ),
    _possession(
        "hobby",
        "My hobby is {v}. | I like {v}. | I love {v}. | In my free time I enjoy {v}. | "
        "I enjoy {v}. | My favourite hobby is {v}. | I spend my weekends with {v}. || "
        "In my free time I like {v}. | Remember that my hobby is {v}.",
        "What is my hobby? | What's my hobby? | Which hobby do I have? | "
        "Do you remember my hobby? | What do I like to do? | What do I do in my free time? | "
        "Tell me my hobby. || "
        "Do you know my hobby? | Can you tell me my hobby?",
        "your hobby is {v}",
        "your hobby",
        _HOBBIES,
        0.1,
    ),
    _possession(
        "job",
        "I work as a {v}. | My job is {v}. | I am a {v}. | I'm a {v}. | "
        "I earn my money as a {v}. | My work? I am a {v}. || I have a job as a {v}. | "
        "Remember that I work as a {v}.",
        "What is my job? | What's my job? | What do I do for work? | Do you remember my job? | "
        "What do I work as? | Tell me my job. || Do you know my job? | Can you tell me my job?",
        "you work as a {v}",
        "what your job is",
        _JOBS,
        0.1,
    ),
    _possession(
        "friend",
        "My best friend is {v}. | My best friend is called {v}. | {v} is my best friend. | "
        "My best friend's name is {v}. | I have a good friend called {v}. || "
        "The name of my best friend is {v}. | Remember that my best friend is {v}.",
        "Who is my best friend? | What is the name of my best friend? | "
        "What is my best friend called? | Do you remember my best friend? | "
        "Who's my best friend? | "
        "Tell me the name of my best friend. | "
        "Tell me my best friend's name. | "
        "How is my best friend called? || Do you know who my best friend is? | "
        "What is my best friend's name?",
        "your best friend is {v}",
        "who your best friend is",
        "",
        0.0,
    ),
)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _fill(text: str, value: str) -> str:
    return text.replace(" a {v}", f" {article(value)}").replace("{v}", value)


def state(topic: Topic, value: str) -> str:
    """The answer that recalls a value."""
    return f"{_sentence(_fill(topic.statement, value))}."


def tell_turn(rng: random.Random, memory: Memory, topic: Topic, split: Split) -> Turn:
    """The user tells a value; it is remembered as typed."""
    typing = Typing.draw(rng)
    value = typing.case(topic.draw_value(rng, split))
    memory.told[topic.name] = value
    # A closer such as "now" would read as part of the value.
    typing = Typing(typing.lower, typing.opener, "", typing.ending)
    user = typing.apply(_fill(topic.tell.draw(rng, split), value))
    if topic is NAME:
        return Turn(user, f"Nice to meet you, {value}!")
    return Turn(user, f"Got it, {_fill(topic.statement, value)}.")


def tell_two_turn(rng: random.Random, memory: Memory, topic: Topic, split: Split) -> Turn:
    """The user tells the name and a fact in one message."""
    lower = rng.random() < 0.3
    name, value = (t.draw_value(rng, split) for t in (NAME, topic))
    fact = _fill(topic.tell.draw(rng, split), value)
    if not fact.startswith(("I ", "I'", value)):
        fact = fact[0].lower() + fact[1:]
    joint = rng.choice((" and ", ", and ", ". "))
    text = NAME.tell.draw(rng, split).format(v=name).rstrip(".") + joint
    text += _sentence(fact) if joint == ". " else fact
    if lower:
        text, name, value = text.lower(), name.lower(), value.lower()
    memory.told |= {NAME.name: name, topic.name: value}
    return Turn(text, f"Nice to meet you, {name}! Got it, {_fill(topic.statement, value)}.")


def ask_turn(rng: random.Random, memory: Memory, topic: Topic, split: Split) -> Turn:
    """The user asks for a value; the answer copies it or says that it was never told."""
    user = Typing.draw(rng).apply(topic.ask.draw(rng, split))
    value = memory.told.get(topic.name)
    if value is None:
        return Turn(user, f"You have not told me {topic.missing} yet.")
    return Turn(user, state(topic, value))
