"""The same bits whatever was computed before, in a browser, with the embedded model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, engine_page

STORY = "Tell me a story about a fox who wants to learn how to swim. "
# One shorter than a chunk of 64 tokens, one of about two, one of several; they begin alike.
QUESTIONS = ("Hello!", STORY * 6, STORY * 6 + "Then he met a bear. " * 9)
ASKED: dict[str, Any] = {
    "temperature": 1.2,
    "seed": 5,
    "max_tokens": 12,
    "ignore_eos": True,
    "logprobs": True,
    "top_logprobs": 2,
}


@pytest.fixture(scope="module")
def pocket(browser: Browser, site: Path, site_url: str, web_bundle: Path) -> Iterator[EnginePage]:
    shutil.copytree(web_bundle, site / "bundles/pocket")
    with engine_page(browser, site_url) as page:
        page.load("pocket", deterministic=True)
        yield page


def ask(page: EnginePage, question: str, **fields: Any) -> dict[str, Any]:
    return page.complete(messages=[{"role": "user", "content": question}], **ASKED, **fields)


def bits(answer: dict[str, Any], choice: int = 0) -> str:
    """Tokens and log probabilities; JSON keeps every bit of a number."""
    return json.dumps(answer["choices"][choice]["logprobs"])


def cold(page: EnginePage, question: str, **fields: Any) -> dict[str, Any]:
    page.run("() => engine.debug.logits([3])")
    answer = ask(page, question, **fields)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    return answer


def test_answers_have_the_same_bits_whatever_is_cached(pocket: EnginePage) -> None:
    alone = {question: bits(cold(pocket, question)) for question in QUESTIONS}
    cached = set()
    for question in (*QUESTIONS, *reversed(QUESTIONS), *QUESTIONS):
        answer = ask(pocket, question)
        assert bits(answer) == alone[question]
        cached.add(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert len(cached) > 1 and all(count % 64 == 0 for count in cached)


def test_choices_and_turns_keep_their_bits(pocket: EnginePage) -> None:
    question = QUESTIONS[1]
    alone = cold(pocket, question, n=2)
    assert bits(alone, 0) == bits(cold(pocket, question))
    turns = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": alone["choices"][1]["message"]["content"]},
        {"role": "user", "content": "And then?"},
    ]
    warm = pocket.complete(messages=turns, **ASKED)
    assert warm["usage"]["prompt_tokens_details"]["cached_tokens"] >= 64
    pocket.run("() => engine.debug.logits([3])")
    assert bits(pocket.complete(messages=turns, **ASKED)) == bits(warm)
    again = ask(pocket, question, n=2)
    assert [bits(again, n) for n in (0, 1)] == [bits(alone, n) for n in (0, 1)]


def test_an_answer_survives_the_loss_of_the_device_bit_by_bit(pocket: EnginePage) -> None:
    params = {"messages": [{"role": "user", "content": QUESTIONS[1]}], **ASKED, "max_tokens": 40}
    whole = [chunk["choices"] for chunk in pocket.stream(params)["chunks"]]
    lost = pocket.stream(params, loseAt=[8])
    assert lost["ended"] == "done"
    assert [chunk["choices"] for chunk in lost["chunks"]] == whole


def test_without_it_a_cached_prefix_of_any_length_is_used(pocket: EnginePage) -> None:
    cold(pocket, QUESTIONS[1], deterministic=False)
    again = ask(pocket, QUESTIONS[1], deterministic=False)["usage"]
    assert again["prompt_tokens_details"]["cached_tokens"] == again["prompt_tokens"] - 1
