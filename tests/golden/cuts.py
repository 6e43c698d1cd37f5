"""Conversations that are too long for a window, to how many of their messages are dropped."""

from fractions import Fraction
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.golden import prompts

# As the engines document it.
MESSAGE_COST = 8
WORDY = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} says this, word by word and "
    "without any change, omission or addition of anybody else's: {{ message['content'] }}<|im_end|>"
    "{% endfor %}<|im_start|>assistant says:"
)
PHRASE = "the lazy dog, "


def messages(
    exchanges: int, *, system: int, seed: int, first: str = "user"
) -> list[dict[str, str]]:
    """Message n repeats a phrase 1 + (n * n * seed) mod 13 times; system messages come first."""
    roles = ["system"] * system + ["user", "assistant"] * exchanges
    roles = roles[: -1 if exchanges else None]
    if first == "assistant":
        roles.insert(system, "assistant")
    return [
        {"role": role, "content": PHRASE * (1 + n * n * seed % 13)} for n, role in enumerate(roles)
    ]


def _reference(template: str) -> PreTrainedTokenizerFast:
    files = prompts.tokenizers()["chatml"]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(prompts.json_text(files["tokenizer"])),
        chat_template=template,
        eos_token=files["config"]["eos_token"],
    )


class Oracle:
    def __init__(self, template: str) -> None:
        self._reference = _reference(template)

    def case(self, chat: list[dict[str, str]], window: int, reserve: int) -> tuple[int | None, int]:
        """How many messages are dropped (None: it can't be made to fit), and the prompt's length."""
        room = window - min(reserve, window // 2)
        length = self._length(chat)
        if length <= room:
            return 0, length
        system = next((n for n, turn in enumerate(chat) if turn["role"] != "system"), len(chat))
        borders = [n for n in range(system + 1, len(chat)) if chat[n]["role"] == "user"]
        tried = [n for n in self._planned(chat, system, borders, window, room)]
        dropped = 0
        for cut in tried:
            dropped, length = cut - system, self._length(chat[:system] + chat[cut:])
            if length <= room:
                break
        return (dropped if length < window else None), length

    def _planned(self, chat: Any, system: int, borders: list[int], window: int, room: int) -> Any:
        costs = [self._tokens(turn["content"]) + MESSAGE_COST for turn in chat]
        quarter, fits, previous = Fraction(window, 4), False, None
        for k in range(1, 10**6):
            reached = [n for n in borders if sum(costs[system:n]) >= k * quarter]
            if not reached:
                break
            rest = sum(costs[:system]) + sum(costs[reached[0] :]) + MESSAGE_COST
            fits = fits or rest <= room
            if fits and reached[0] != previous:
                previous = reached[0]
                yield previous
        if borders and borders[-1] != previous:
            yield borders[-1]

    def _tokens(self, text: str) -> int:
        return len(self._reference.encode(text, add_special_tokens=False))

    def _length(self, chat: list[dict[str, str]]) -> int:
        text = self._reference.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self._tokens(text)


def _cases() -> Any:
    for window, reserve in ((300, 40), (300, 5), (301, 1000), (64, 16), (1000, 256)):
        yield "chatml", {"exchanges": 14, "system": 1, "seed": 5}, window, reserve
        yield "wordy", {"exchanges": 14, "system": 0, "seed": 5}, window, reserve
    for exchanges in range(20, 60):
        yield "chatml", {"exchanges": exchanges, "system": 1, "seed": 3}, 1200, 64
    for first in ("user", "assistant"):
        for system in (0, 2):
            asked = {"exchanges": 9, "system": system, "seed": 7, "first": first}
            yield "chatml", asked, 256, 32
    yield "chatml", {"exchanges": 1, "system": 1, "seed": 11}, 40, 8
    yield "chatml", {"exchanges": 2, "system": 1, "seed": 11}, 30, 8
    # What can be dropped is less than a quarter of the window, and has to be.
    yield "chatml", {"exchanges": 2, "system": 0, "seed": 3}, 240, 120
    yield "chatml", {"exchanges": 0, "system": 1, "seed": 12}, 100, 8


def make() -> dict[str, Any]:
    templates = {"chatml": prompts.CHATML, "wordy": WORDY}
    oracles = {name: Oracle(template) for name, template in templates.items()}
    cases = []
    for name, asked, window, reserve in _cases():
        dropped, tokens = oracles[name].case(messages(**asked), window, reserve)
        case = {"template": name, "asked": asked, "window": window, "reserve": reserve}
        cases.append({**case, "dropped": dropped, "tokens": tokens})
    return {"templates": templates, "phrase": PHRASE, "cases": cases}
