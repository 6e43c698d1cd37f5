"""Answers in a browser: OpenAI's API, the KV cache, and numbers like those of transformers."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser import EnginePage
from tests.engine.checkpoints import reference_logits

HELLO = [{"role": "user", "content": "Hello, who are you?"}]
GREEDY: dict[str, Any] = {"messages": HELLO, "temperature": 0, "ignore_eos": True}
END_OF_TURN = "2"


def text(completion: dict[str, Any], choice: int = 0) -> str:
    content: str = completion["choices"][choice]["message"]["content"]
    return content


def test_logits_are_those_of_transformers(tiny: EnginePage, checkpoint: Path) -> None:
    # Longer than a chunk of 32, and a single token.
    for tokens in ([(7 * i * i + 3) % 1024 for i in range(45)], [5]):
        found = tiny.run("(ids) => engine.debug.logits(ids).then((l) => [...l])", tokens)
        expected = reference_logits(checkpoint, tokens)
        bound = 1e-3 * float(expected.abs().max())
        assert len(found) == 1024
        assert max(abs(a - float(b)) for a, b in zip(found, expected, strict=True)) < bound


def test_an_answer_ends_at_its_length(tiny: EnginePage) -> None:
    answer = tiny.complete(**GREEDY, max_tokens=5)
    assert answer["object"] == "chat.completion" and answer["model"] == "tiny-q0f32"
    assert answer["choices"][0]["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5
    assert usage["extra"]["decode_tokens_per_s"] > 0
    assert usage["extra"]["time_to_first_token_s"] <= usage["extra"]["e2e_latency_s"]


def test_a_stream_says_the_same_in_parts(tiny: EnginePage) -> None:
    whole = tiny.complete(**GREEDY, max_tokens=8)
    parts = tiny.stream({**GREEDY, "max_tokens": 8, "stream_options": {"include_usage": True}})
    assert parts["ended"] == "done" and parts["text"] == text(whole)
    assert parts["finish"] == ["length"]
    first, *rest = parts["chunks"]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in c["choices"][0]["delta"] for c in rest[:-1])
    assert rest[-1]["choices"] == [] and rest[-1]["usage"]["completion_tokens"] == 8
    assert len({chunk["id"] for chunk in parts["chunks"]}) == 1


def test_end_of_turn_stops_unless_it_is_ignored(tiny: EnginePage) -> None:
    biased = {"messages": HELLO, "temperature": 0, "logit_bias": {END_OF_TURN: 100}}
    ended = tiny.complete(**biased, max_tokens=4)
    assert ended["choices"][0]["finish_reason"] == "stop" and text(ended) == ""
    ignored = tiny.complete(**biased, max_tokens=4, ignore_eos=True)
    assert ignored["choices"][0]["finish_reason"] == "length"
    assert ignored["usage"]["completion_tokens"] == 4


def test_a_stop_string_ends_the_answer_before_it(tiny: EnginePage) -> None:
    whole = text(tiny.complete(**GREEDY, max_tokens=12))
    stop = whole[3:6]
    answer = tiny.complete(**GREEDY, max_tokens=12, stop=[stop, "never said"])
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert text(answer) == whole[: whole.index(stop)]
    parts = tiny.stream({**GREEDY, "max_tokens": 12, "stop": stop})
    assert parts["text"] == text(answer) and parts["finish"] == ["stop"]


def test_a_seed_gives_the_same_text_again(tiny: EnginePage) -> None:
    params = {"messages": HELLO, "temperature": 1.5, "max_tokens": 8, "ignore_eos": True}
    first = tiny.complete(**params, seed=11, n=2)
    again = tiny.complete(**params, seed=11, n=2)
    other = tiny.complete(**params, seed=12, n=2)
    assert [text(first, i) for i in (0, 1)] == [text(again, i) for i in (0, 1)]
    assert text(first, 0) != text(first, 1)
    assert text(first, 0) != text(other, 0)
    assert first["usage"]["completion_tokens"] == 16


def test_log_probabilities_name_the_likeliest_first(tiny: EnginePage) -> None:
    answer = tiny.complete(**GREEDY, max_tokens=3, logprobs=True, top_logprobs=4)
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == 3
    for token in content:
        likeliest = [top["logprob"] for top in token["top_logprobs"]]
        assert len(likeliest) == 4 and likeliest == sorted(likeliest, reverse=True)
        assert token["logprob"] == likeliest[0] <= 0
    assert bytes(b for token in content for b in token["bytes"]).decode(errors="replace") == text(
        answer
    )


def test_the_next_turn_reads_only_what_is_new(tiny: EnginePage) -> None:
    tiny.run("() => engine.debug.logits([3])")
    first = tiny.complete(**GREEDY, max_tokens=6)
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    prompt_tokens = first["usage"]["prompt_tokens"]
    again = tiny.complete(**GREEDY, max_tokens=6)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == prompt_tokens - 1
    assert text(again) == text(first)
    # An answer that the template writes down as its tokens were: none but the question is new.
    ended = tiny.complete(messages=HELLO, temperature=0, logit_bias={END_OF_TURN: 100})
    assert ended["choices"][0]["finish_reason"] == "stop"
    turns = [*HELLO, {"role": "assistant", "content": ""}, {"role": "user", "content": "And?"}]
    third = tiny.complete(messages=turns, temperature=0, max_tokens=2)
    assert third["usage"]["prompt_tokens_details"]["cached_tokens"] >= prompt_tokens
    assert third["usage"]["extra"]["cached_tokens"] >= prompt_tokens


def test_an_abort_ends_the_stream_and_nothing_else(tiny: EnginePage) -> None:
    # So many that it isn't written when the page's wish arrives, however late.
    parts = tiny.stream({**GREEDY, "max_tokens": 90, "n": 16}, abortAfter=3)
    assert parts["ended"]["name"] == "AbortError"
    assert len(parts["chunks"]) < 8 * 90
    whole = text(tiny.complete(**GREEDY, max_tokens=5))
    assert text(tiny.complete(**GREEDY, max_tokens=5)) == whole


def test_requests_are_answered_one_after_the_other(tiny: EnginePage) -> None:
    alone = [text(tiny.complete(**{**GREEDY, "seed": 1}, max_tokens=n)) for n in (3, 4)]
    together = tiny.run(
        """(p) => Promise.all([3, 4].map((max_tokens) =>
          engine.chat.completions.create({ ...p, max_tokens })))""",
        GREEDY,
    )
    assert [text(answer) for answer in together] == alone


@pytest.mark.parametrize(
    ("param", "params"),
    [
        ("temperature", {"temperature": 9}),
        ("messages", {"messages": []}),
        ("stop", {"stop": ["a", "b", "c", "d", "e"]}),
        ("logit_bias", {"logit_bias": {"1024": 1}}),
    ],
)
def test_bad_requests_name_the_parameter(
    tiny: EnginePage, param: str, params: dict[str, Any]
) -> None:
    failed = tiny.complete_failure(**{**GREEDY, **params})
    assert (failed["name"], failed["code"], failed["param"]) == (
        "EngineError",
        "invalid_request",
        param,
    )


def test_a_long_prompt_is_refused_with_both_numbers(tiny: EnginePage) -> None:
    failed = tiny.complete_failure(messages=[{"role": "user", "content": "many words " * 80}])
    assert failed["code"] == "context_length_exceeded" and failed["param"] == "messages"
    assert "127" in failed["message"] or "128" in failed["message"]


def test_an_answer_may_fill_the_context(tiny: EnginePage) -> None:
    answer = tiny.complete(**GREEDY)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 128


def test_pieces_never_split_a_character(tiny: EnginePage) -> None:
    params = {"messages": HELLO, "temperature": 2, "seed": 4, "max_tokens": 24, "ignore_eos": True}
    logprobs = tiny.complete(**params, logprobs=True)
    tokens = logprobs["choices"][0]["logprobs"]["content"]
    whole = bytes(b for token in tokens for b in token["bytes"]).decode(errors="replace")
    assert tiny.stream(params)["text"] == whole == text(logprobs)


def test_memory_doesnt_grow_with_answers(tiny: EnginePage) -> None:
    tiny.complete(**GREEDY, max_tokens=4)
    before = tiny.run("() => engine.debug.memory()")
    for _ in range(3):
        tiny.complete(**GREEDY, max_tokens=8)
    assert tiny.run("() => engine.debug.memory()") == before
