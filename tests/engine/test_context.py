"""What the KV cache keeps between turns, and what gives way in a context that is too short."""

from typing import Any

import pytest

from tests.browser import EnginePage

QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}


def _turns(answer: dict[str, Any], question: str) -> list[dict[str, str]]:
    said = answer["choices"][0]["message"]["content"]
    return [
        *QUESTION,
        {"role": "assistant", "content": said},
        {"role": "user", "content": question},
    ]


def _cached(answer: dict[str, Any]) -> int:
    tokens: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


@pytest.mark.parametrize(
    "ending", [{"max_tokens": 5}, {"max_tokens": 5, "stop": ["e", "a", "i", "t"]}]
)
def test_the_next_turn_computes_only_what_is_new(tiny: EnginePage, ending: dict[str, Any]) -> None:
    # A forced letter: its token is the one that its text becomes again in the next prompt.
    first = tiny.complete(messages=QUESTION, **GREEDY, **ending, logit_bias={"40": 100})
    prompt = first["usage"]["prompt_tokens"]
    second = tiny.complete(messages=_turns(first, "Go on."), **GREEDY, max_tokens=3)
    assert _cached(second) >= prompt
    assert second["usage"]["prompt_tokens"] > _cached(second)
    again = tiny.complete(messages=_turns(first, "Go on."), **GREEDY, max_tokens=3)
    assert _cached(again) == again["usage"]["prompt_tokens"] - 1
    assert again["choices"] == second["choices"]
    # The cache changes the time, not the answer.
    tiny.run("() => engine.debug.logits([3])")
    fresh = tiny.complete(messages=_turns(first, "Go on."), **GREEDY, max_tokens=3)
    assert _cached(fresh) == 0
    assert fresh["choices"] == second["choices"]


def test_choices_share_their_prompt(tiny: EnginePage) -> None:
    params = {"messages": QUESTION, "temperature": 0, "max_tokens": 3, "ignore_eos": True}
    answer = tiny.complete(**params, n=2)
    first, second = (choice["message"]["content"] for choice in answer["choices"])
    assert first == second
    assert tiny.complete(**params)["choices"][0]["message"]["content"] == first


LONG = "one two three four five six seven eight nine ten. " * 40


def test_oldest_turns_are_dropped_if_asked_for(fresh: EnginePage) -> None:
    fresh.load("tiny-q0f32", contextPolicy="truncate-oldest")
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": LONG[:150]},
        {"role": "assistant", "content": LONG[:150]},
        {"role": "user", "content": "And now?"},
    ]
    answer = fresh.complete(messages=turns, **GREEDY, max_tokens=4)
    short = fresh.complete(messages=[turns[0], turns[-1]], **GREEDY, max_tokens=4)
    assert answer["usage"]["prompt_tokens"] == short["usage"]["prompt_tokens"]
    assert answer["choices"] == short["choices"]
