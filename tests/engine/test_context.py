"""What the KV cache keeps between turns, where the context ends, and that nothing piles up."""

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
    tiny.complete(messages=[{"role": "user", "content": "x"}], **GREEDY, max_tokens=1)
    fresh = tiny.complete(messages=_turns(first, "Go on."), **GREEDY, max_tokens=3)
    assert _cached(fresh) < prompt
    assert fresh["choices"] == second["choices"]


def test_choices_share_their_prompt(tiny: EnginePage) -> None:
    params = {"messages": QUESTION, "temperature": 0, "max_tokens": 3, "ignore_eos": True}
    answer = tiny.complete(**params, n=2)
    first, second = (choice["message"]["content"] for choice in answer["choices"])
    assert first == second


LONG = "one two three four five six seven eight nine ten. " * 40


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(tiny: EnginePage) -> None:
    failed = tiny.complete_failure(messages=[{"role": "user", "content": LONG}])
    assert failed["name"] == "EngineError"
    assert failed["code"] == "context_length_exceeded"
    assert failed["param"] == "messages"
    assert " at most 127" in failed["message"]


def test_an_answer_ends_where_the_context_ends(tiny: EnginePage) -> None:
    question = [{"role": "user", "content": LONG[:200]}]
    answer = tiny.complete(messages=question, **GREEDY)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 128


def test_a_wrong_request_names_its_parameter(tiny: EnginePage) -> None:
    failed = tiny.complete_failure(messages=QUESTION, top_p=7)
    assert (failed["code"], failed["param"]) == ("invalid_request", "top_p")
    assert failed["remedy"]


def test_memory_stays_the_same_however_long_answers_get(tiny: EnginePage) -> None:
    params = {"messages": QUESTION, **GREEDY, "max_tokens": 12}
    tiny.complete(**params)
    before = tiny.run("() => engine.debug.memory()")
    for _ in range(3):
        tiny.complete(**params)
    assert tiny.run("() => engine.debug.memory()") == before


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
