"""Greetings, questions about the project, and what lies outside the model's skills."""

from __future__ import annotations

import random
from dataclasses import dataclass

from models.pocket.training.dialogue import Turn, Typing
from models.pocket.training.split import Phrasings, Split, items_of


@dataclass(frozen=True)
class Subject:
    """Questions with one answer; `key` is what a right answer contains."""

    key: str
    wordings: Phrasings
    answer: str


def _subject(key: str, answer: str, train: str, held_out: str) -> Subject:
    return Subject(key, Phrasings(train.split("|"), held_out.split("|")), answer)


GREETINGS = (
    _subject(
        "Hello",
        "Hello! How can I help you?",
        "Hello!|Hi!|Hey!|Hello|Hi there!|Hey there!|Good day!|Hello there!|Hi, Pocket!|Greetings!",
        "Hey Pocket!|Hello, Pocket!",
    ),
    _subject(
        "Good morning",
        "Good morning! How can I help you?",
        "Good morning!|Morning!|Good morning, Pocket!",
        "A good morning!",
    ),
    _subject(
        "Good evening",
        "Good evening! How can I help you?",
        "Good evening!|Evening!|Good evening, Pocket!",
        "A good evening!",
    ),
    _subject(
        "fine",
        "I am fine, thank you! What can I do for you?",
        "How are you?|How are you doing?|How do you do?|How is it going?|Hi, how are you?|"
        "Are you well?|How are you today?|How do you feel?|Hello, how are you?",
        "Hey, how are you doing?|How are you now?",
    ),
    _subject(
        "welcome",
        "You are welcome!",
        "Thank you!|Thanks!|Thanks a lot!|Thank you very much!|Great, thanks!|Thanks, Pocket!|"
        "That is great, thank you!|Thank you so much!|Good, thank you.",
        "Great, thank you very much!|Thanks so much!",
    ),
    _subject(
        "Goodbye",
        "Goodbye! Have a nice day!",
        "Bye!|Goodbye!|See you!|See you later!|Bye bye!|Good night!|I have to go.|Bye, Pocket!|"
        "Goodbye, Pocket!",
        "See you, Pocket!|I have to go now, bye!",
    ),
)
PROJECT = (
    _subject(
        "Pocket",
        "I am Pocket, the small demo model of mlc-edge.",
        "Who are you?|What are you?|What is your name?|What's your name?|Do you have a name?|"
        "What model are you?|Tell me your name.|Are you a robot?|Introduce yourself.|"
        "What are you called?|Which model is this?|Are you a human?|Tell me about you.",
        "Can you tell me your name?|Which model are you?|Please introduce yourself.",
    ),
    _subject(
        "capitals",
        "I can chat a little, add and subtract, name capitals, convert units, "
        "tell tiny stories and remember what you tell me.",
        "What can you do?|How can you help me?|What are your skills?|What do you know?|"
        "Help|What can I ask you?|Can you help me?|What are you good at?|Help me.|"
        "Tell me what you can do.|What do you do?",
        "What can you help me with?|Can you tell me what you can do?",
    ),
    _subject(
        "compiles",
        "mlc-edge compiles language models with Apache TVM and runs them in "
        "browsers and on edge devices.",
        "What is mlc-edge?|Tell me about mlc-edge.|What does mlc-edge do?|Explain mlc-edge.|"
        "What's mlc-edge?|What is this project?|Tell me about this project.|mlc-edge?|"
        "What is the mlc-edge project?|What does this project do?|Do you know mlc-edge?",
        "Can you tell me about mlc-edge?|Can you explain mlc-edge?|"
        "What does the mlc-edge project do?",
    ),
    _subject(
        "Raspberry Pi",
        "mlc-edge runs in the browser with WebGPU, on the Raspberry Pi and on the Jetson.",
        "Where does mlc-edge run?|Which devices does mlc-edge support?|Where can mlc-edge run?|"
        "Does mlc-edge run on a Raspberry Pi?|Does mlc-edge run on a Jetson?|Where do you run?|"
        "Does mlc-edge run in a browser?|On which devices does it run?|What hardware do I need?|"
        "Can mlc-edge run on a Raspberry Pi?|Can I use mlc-edge in the browser?|"
        "Does it use WebGPU?|Do you run in the browser?",
        "Can mlc-edge run on a Jetson?|Can I use mlc-edge on a Raspberry Pi?|"
        "On which devices does mlc-edge run?",
    ),
    _subject(
        "TVM",
        "The models are compiled by Apache TVM.",
        "What compiles the models?|Which compiler does mlc-edge use?|How are models compiled?|"
        "What is Apache TVM?|Does mlc-edge use TVM?|Which compiler do you use?|What is TVM?|"
        "How are the models compiled?|Who compiles the models?|How were you compiled?",
        "Which compiler compiles the models?|Does mlc-edge use Apache TVM?",
    ),
    _subject(
        "OpenAI",
        "mlc-edge has an OpenAI-style API, so most clients work with it.",
        "What API does mlc-edge have?|How do I call mlc-edge?|Which API does it have?|"
        "Is there an API?|Does mlc-edge have an API?|Is mlc-edge compatible with OpenAI?|"
        "How can I use the API?|What is the API?|Does it have an OpenAI API?",
        "Which API does mlc-edge have?|Is there an OpenAI API?|Is there an API in mlc-edge?",
    ),
    _subject(
        "Apache License",
        "mlc-edge is free under the Apache License 2.0.",
        "What is the licence of mlc-edge?|Is mlc-edge free?|Is mlc-edge open source?|"
        "Which licence does mlc-edge have?|What does mlc-edge cost?|Is it open source?|"
        "What's the license?",
        "Which license does mlc-edge have?|Is this project open source?",
    ),
)
REFUSAL = "I am a small demo model, so I cannot help with that."
REFUSAL_KEY = "small demo model"
_TOPICS = tuple(
    """
    football|tennis|politics|history|biology|chemistry|physics|philosophy|economics|medicine|opera|
    music|movies|the weather|the stock market|bitcoin|poetry|astronomy|the moon|dinosaurs|volcanoes|
    the internet|cars|engines|electricity|quantum mechanics|black holes|gravity|evolution|viruses|
    vaccines|the brain|dreams|sleep|coffee|tea|wine|bread baking|climate change|the ocean|sharks|
    trees|insects|computers|python|rust|javascript|databases|networks|robots|algorithms|logic|art|
    sculpture|fashion|shoes|houses|taxes|insurance|banks|law|elections|wars|the romans|pyramids|
    vikings|religion|yoga|diets|vitamins|marathons|chess openings|video games|board games|cameras|
    airplanes|trains|space travel|rockets|satellites|mars|the sun|comets|rainbows|thunder|snow
    """.replace("\n", " ").split("|")
)
_THINGS = tuple(
    """
    a poem|a song|an essay|an email|a letter|a python function|a web page|a shell script|a recipe|
    a joke|a riddle|a contract|a business plan|a haiku|a speech|a summary|a database query|a play|
    a blog post|a cover letter|a sorting algorithm|a crossword|a love letter|a review|a report|
    a shopping list|a birthday card|a regular expression|a game|a program|a drum beat|a screenplay
    """.replace("\n", " ").split("|")
)
_LANGUAGES = tuple(
    "french german spanish italian japanese chinese russian arabic hindi greek latin dutch "
    "polish swedish turkish korean portuguese danish finnish hebrew".split()
)
_WORDS = tuple(
    "house water friend sky table window bread street summer winter garden chair door river "
    "mountain flower shirt letter school market island bottle candle mirror".split()
)
OPEN_ENDED = Phrasings(
    train=(
        "What do you think about {t}?",
        "Explain {t}.",
        "Tell me about {t}.",
        "How does {t} work?",
        "Who invented {t}?",
        "Why do people like {t}?",
        "Write {x} about {t}.",
        "Write {x}.",
        "Can you write {x}?",
        "Can you write {x} about {t}?",
        "Please write {x} for me.",
        "Translate {w} to {l}.",
        "How do you say {w} in {l}?",
        "What is {w} in {l}?",
        "Do you speak {l}?",
        "What is the best book about {t}?",
        "Give me advice on {t}.",
        "Who is the president?",
        "Who won the world cup?",
        "What time is it?",
        "What day is it?",
        "What's the weather like?",
        "Will it rain tomorrow?",
        "Play some {t} for me.",
        "What is {n} times {m}?",
        "{n} * {m}",
        "What is {n} divided by {m}?",
        "{n} / {m}",
        "Multiply {n} by {m}.",
        "What is the square root of {n}?",
        "Divide {n} by {m}.",
        "Is {n} a prime number?",
        "Spell {w} backwards.",
        "What rhymes with {w}?",
        "Define {w}.",
        "What is the meaning of life?",
        "How tall is the highest mountain?",
        "Why is the sky blue?",
        "Can I eat {w}?",
        "Where can I buy a {w}?",
        "Should I learn {l}?",
        "Draw me a {w}.",
        "What is the population of {l} cities?",
        "Search the web for {t}.",
        "Open the {w}.",
        "Send {x} to my boss.",
        "What are the rules of {t}?",
        "When did {t} begin?",
        "Compare {t} and {u}.",
        "Which is better, {t} or {u}?",
        "I want to learn {t}.",
        "Is {t} hard?",
        "What is {t}?",
        "What do you know about {t}?",
        "Turn on the light.",
        "How old are you?",
        "Do you love me?",
        "Can you see me?",
        "Are you alive?",
        "What's new?",
        "Set an alarm for {n} minutes.",
        "Book a flight.",
        "How many people live on earth?",
        "Summarise {x}.",
        "Fix my {w}.",
        "How do I cook {w}?",
        "I feel sad.",
        "I am bored.",
        "Sing me {x}.",
        "Make {x}.",
        "Why is {t} important?",
        "asdf",
        "Hmm",
        "What?",
        "Why?",
    ),
    held_out=(
        "Could you write {x} about {t}?",
        "Please explain {t}.",
        "What do you think of {t}?",
        "Can you translate {w} to {l}?",
        "Tell me about the rules of {t}.",
        "Who began {t}?",
        "Which is better, {u} or {l}?",
        "Is {t} important?",
        "How do I learn {t}?",
        "What is {n} multiplied by {m}?",
        "Can you sing me {x}?",
        "Where can I learn {l}?",
    ),
)
_FOREIGN = tuple(
    """
    Bonjour|Comment ça va|Où est la gare|Je ne comprends pas|Quelle heure est-il|Guten Tag
    Wie geht es dir|Was ist das|Ich möchte ein Brot|Wo ist der Bahnhof|Hola|¿Qué tal|Buenos días
    ¿Cómo te llamas|No entiendo|Ciao|Come stai|Buongiorno|Olá|Tudo bem|Привет|Как дела
    你好|你会说中文吗|こんにちは|元気ですか|안녕하세요|مرحبا|नमस्ते
    Merhaba|Hej|Dzień dobry|Goedemorgen
    """.strip()
    .replace("\n    ", "|")
    .split("|")
)
# First code points: accented Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, Georgian,
# punctuation, arrows, boxes, kana, two places in Han, two in Hangul, emoji.
_SCRIPTS = (
    0xC0,
    0x100,
    0x391,
    0x410,
    0x5D0,
    0x620,
    0x904,
    0xE01,
    0x10D0,
    0x2010,
    0x2190,
    0x2500,
    0x3041,
    0x4E00,
    0x6C34,
    0xAC00,
    0xC7A0,
    0x1F600,
    0x1F680,
    0x500,
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are Pocket, a small demo model.",
    "Be brief.",
    "You are a friendly assistant. Answer in one sentence.",
    "Answer politely.",
    "You are an assistant that runs in the browser.",
    "You are a pirate.",
    "Always be honest.",
    "You help people with short answers.",
    "Answer the user's questions as well as you can.",
    "You are a helpful, honest and concise assistant.",
    "Talk like a teacher.",
    "Use simple words.",
)


def _draw_item(rng: random.Random, split: Split, kind: str, items: tuple[str, ...]) -> str:
    return rng.choice(items_of(split, kind, items)).strip()


def word_open_ended(rng: random.Random, *, wording: Split) -> str:
    """A request that is none of the skills, with words of one side of the split."""
    return OPEN_ENDED.draw(rng, wording).format(
        t=_draw_item(rng, wording, "topic", _TOPICS),
        u=_draw_item(rng, wording, "topic", _TOPICS),
        x=_draw_item(rng, wording, "thing", _THINGS),
        w=_draw_item(rng, wording, "word", _WORDS),
        l=_draw_item(rng, wording, "language", _LANGUAGES).capitalize(),
        n=rng.randrange(2, 100),
        m=rng.randrange(2, 100),
    )


def _draw_known(rng: random.Random, subjects: tuple[Subject, ...]) -> Turn:
    subject = rng.choice(subjects)
    text = subject.wordings.draw(rng, Split.TRAIN)
    return Turn(Typing.draw(rng).apply(text), subject.answer)


def draw_greeting(rng: random.Random) -> Turn:
    """A greeting, thanks or goodbye."""
    return _draw_known(rng, GREETINGS)


def draw_project(rng: random.Random) -> Turn:
    """A question about the model or the project."""
    return _draw_known(rng, PROJECT)


def draw_foreign(rng: random.Random) -> Turn:
    """Text in no known language, so that rare bytes are trained too; politely refused."""
    first = rng.choice(_SCRIPTS)
    words = (
        "".join(chr(first + rng.randrange(40)) for _ in range(rng.randint(1, 8)))
        for _ in range(rng.randint(1, 4))
    )
    text = rng.choice(_FOREIGN) if rng.random() < 0.4 else " ".join(words)
    return Turn(text + rng.choice(("", "?", ".", "!")), REFUSAL)


def draw_open_ended(rng: random.Random) -> Turn:
    """A request outside the skills, politely refused."""
    text = word_open_ended(rng, wording=Split.TRAIN)
    return Turn(Typing.draw(rng).apply(text), REFUSAL)
