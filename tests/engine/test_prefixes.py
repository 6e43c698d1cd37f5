"""Chats that begin alike, and chats that take turns, in a browser."""

import json
from typing import Any

import pytest

from tests.browser import EnginePage

# About 40 tokens, in a context of 128 with chunks of 32.
SYSTEM = "You are the voice of a museum of clocks. " * 2
ASKED: dict[str, Any] = {
    "temperature": 1.2,
    "seed": 5,
    "max_tokens": 8,
    "ignore_eos": True,
    "logprobs": True,
}


def forget(page: EnginePage) -> None:
    page.run("() => engine.debug.logits([3])")


def user(question: str) -> dict[str, str]:
    return {"role": "user", "content": question}


def ask(page: EnginePage, *turns: dict[str, str], **fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, *turns]
    return page.complete(messages=messages, **{**ASKED, **fields})


def cached(answer: dict[str, Any]) -> int:
    count: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


def asked(answer: dict[str, Any]) -> int:
    count: int = answer["usage"]["prompt_tokens"]
    return count


def bits(answer: dict[str, Any]) -> str:
    """Tokens and log probabilities; JSON keeps every bit of a number."""
    return json.dumps([choice["logprobs"] for choice in answer["choices"]])


def logprobs(answer: dict[str, Any]) -> list[float]:
    (choice,) = answer["choices"]
    return [entry["logprob"] for entry in choice["logprobs"]["content"]]


def test_a_shared_system_prompt_is_computed_once_and_both_chats_are_kept(tiny: EnginePage) -> None:
    forget(tiny)
    chats = [user("When do you open?"), user("Who built them?")]
    first, second = (ask(tiny, chat) for chat in chats)
    assert cached(first) == 0
    assert 32 < cached(second) < asked(second) - 4
    for _ in range(2):
        for chat in chats:
            again = ask(tiny, chat)
            assert cached(again) == asked(again) - 1
    said = {"role": "assistant", "content": again["choices"][0]["message"]["content"]}
    assert cached(ask(tiny, chats[1], said, user("Why?"), max_tokens=1)) >= asked(again) - 1


def test_forks_have_the_bits_of_a_fresh_computation(tiny: EnginePage) -> None:
    fields = {"deterministic": True, "n": 2}
    questions = ("When?", "Who built the oldest?", "When?", "Is there tea?")
    fresh = []
    for question in questions:
        forget(tiny)
        fresh.append(bits(ask(tiny, user(question), **fields)))
    forget(tiny)
    answers = [ask(tiny, user(question), **fields) for question in questions]
    assert [bits(answer) for answer in answers] == fresh
    assert [cached(answer) for answer in answers] == [0, 32, 32, 32]


def test_a_fork_of_a_chat_that_grew_within_a_page_has_what_the_chat_computed(
    tiny: EnginePage,
) -> None:
    fields = {"max_tokens": 3, "temperature": 0}
    turns = [user("clock " * 3)]
    forget(tiny)
    said = tiny.complete(messages=turns, **{**ASKED, **fields})
    begun = asked(said) + 3
    assert begun % 16 != 0
    turns.append({"role": "assistant", "content": said["choices"][0]["message"]["content"]})
    long, branch = ([*turns, user("tea " * 12 + end)] for end in ("clock " * 12, "is there?"))
    tiny.complete(messages=long, **{**ASKED, **fields})
    forked = tiny.complete(messages=branch, **{**ASKED, **fields})
    forget(tiny)
    fresh = tiny.complete(messages=branch, **{**ASKED, **fields})
    assert cached(fresh) == 0 and cached(forked) > begun + 16
    assert logprobs(forked) == pytest.approx(logprobs(fresh), abs=1e-3)


def test_pages_are_taken_from_the_end_of_the_chat_that_was_left_longest(tiny: EnginePage) -> None:
    forget(tiny)
    first = ask(tiny, user("When do you open?"), max_tokens=1)
    before = tiny.run("() => engine.debug.memory()")
    other = tiny.complete(messages=[user("clock " * 25)], **ASKED)
    assert asked(first) + asked(other) > 128
    again = ask(tiny, user("When do you open?"), max_tokens=1)
    assert 16 <= cached(again) < asked(first) - 1
    assert tiny.run("() => engine.debug.memory()") == before


def test_all_chats_are_computed_again_after_the_loss_of_the_device(tiny: EnginePage) -> None:
    question = user("When do you open?")
    alone = bits(ask(tiny, question, deterministic=True))
    tiny.run("() => engine.debug.loseDevice()")
    again = ask(tiny, question, deterministic=True)
    assert (bits(again), cached(again)) == (alone, 0)
    assert cached(ask(tiny, user("Who built them?"), deterministic=True)) == 32
