"""The engine's parts against the golden vectors that the browser's engine is held to."""

import json
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mlc_edge.engine.conversation import ContextLimits, Conversation
from mlc_edge.engine.detokenizer import Detokenizer
from mlc_edge.engine.protocol import (
    ChatMessage,
    CompletionRequest,
    ModelFacts,
    SamplingSettings,
    parse_chat,
    parse_completion,
)
from mlc_edge.engine.vocabulary import Vocabulary
from mlc_edge.errors import EngineError
from tests.golden import cuts

GOLDEN = Path(__file__).parent.parent / "golden"


def load(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name).read_text())


REQUESTS, TEXT, PROMPTS, CONTROL, CUTS = (
    load(f"{name}.json") for name in ("requests", "text", "prompts", "control_tokens", "cuts")
)
SNAKE = {
    "topP": "top_p",
    "topK": "top_k",
    "minP": "min_p",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "repetitionPenalty": "repetition_penalty",
}
CAMEL = {snake: camel for camel, snake in SNAKE.items()} | {
    "max_tokens": "maxTokens",
    "include_usage": "includeUsage",
    "ignore_eos": "ignoreEos",
    "logit_bias": "logitBias",
}


def facts() -> ModelFacts:
    model = REQUESTS["model"]
    defaults = {SNAKE.get(name, name): value for name, value in model["defaults"].items()}
    return ModelFacts((model["id"],), model["vocabSize"], SamplingSettings(**defaults))


def as_golden(request: CompletionRequest) -> dict[str, Any]:
    content = asdict(request)
    for name in ("prompts", "echo"):
        del content[name]
    sampling = {CAMEL.get(k, k): v for k, v in content.pop("sampling").items()}
    sampling["logitBias"] = [list(item) for item in sampling["logitBias"].items()]
    content = {CAMEL.get(k, k): v for k, v in content.items()}
    return {
        **content,
        "messages": list(content["messages"]),
        "stop": list(content["stop"]),
        "sampling": sampling,
    }


@pytest.mark.parametrize(
    "case", REQUESTS["cases"], ids=lambda case: json.dumps(case["request"])[:60]
)
def test_requests(case: dict[str, Any]):
    if "accepted" in case:
        assert as_golden(parse_chat(case["request"], facts())) == case["accepted"]
        return
    with pytest.raises(EngineError) as error:
        parse_chat(case["request"], facts())
    assert {"code": error.value.code, "param": error.value.param} == case["refused"]


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


HUGE = 10**5000


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("temperature", {"temperature": HUGE}),
        ("temperature", {"temperature": float("nan")}),
        ("temperature", {"temperature": deep()}),
        ("seed", {"seed": -HUGE}),
        ("n", {"n": float("inf")}),
        ("top_k", {"top_k": HUGE}),
        ("logit_bias", {"logit_bias": {HUGE: 1}}),
        ("logit_bias", {"logit_bias": {"1": HUGE}}),
        ("logit_bias", {"logit_bias": {"1": float("nan")}}),
        ("logit_bias", {"logit_bias": {-1: 1}}),
        ("logit_bias", {"logit_bias": {True: deep()}}),
        ("tools", {"tools": deep()}),
        ("stop", {"stop": deep()}),
        ("x" * 120, {"x" * 1_000_000: 1}),
        ("?", {"\ud800": 1}),
        ("user", {"prompt": "a", "user": object()}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_a_field_is_it_is_refused_by_name(param: str, fields: dict[Any, Any]):
    with pytest.raises(EngineError) as error:
        parse_chat({"messages": [{"role": "user", "content": "Hello"}], **fields}, facts())
    found = (error.value.code, error.value.param)
    assert found == ("invalid_request", "prompt" if "prompt" in fields else param)
    str(error.value).encode()
    assert len(str(error.value)) < 300


def test_token_ids_may_be_numbers_in_python():
    messages = [{"role": "user", "content": "Hello"}]
    asked = parse_chat({"messages": messages, "logit_bias": {7: 1, "8": 2}}, facts())
    assert asked.sampling.logit_bias == {7: 1, 8: 2}


@pytest.mark.parametrize(
    ("param", "given"),
    [
        ("prompt", {"prompt": "half \ud83d"}),
        ("prompt[1]", {"prompt": ["a", "\udc00"]}),
        ("prompt", {"prompt": [HUGE]}),
        ("prompt[0]", {"prompt": [float("inf")]}),
        ("prompt", {"prompt": deep() * 17}),
        ("prompt[0]", {"prompt": deep()}),
        ("max_tokens", {"prompt": "a", "max_tokens": 0}),
        ("max_tokens", {"prompt": "a", "max_tokens": 0, "echo": False}),
        ("best_of", {"prompt": "a", "best_of": 2}),
        ("best_of", {"prompt": "a", "n": 2, "best_of": 1}),
        ("suffix", {"prompt": "a", "suffix": "b"}),
        ("tools", {"prompt": "a", "tools": [{}]}),
        ("messages", {"prompt": "a", "messages": []}),
    ],
)
def test_wrong_completions_are_refused_by_name(param: str, given: dict[str, Any]):
    with pytest.raises(EngineError) as error:
        parse_completion(given, facts())
    assert (error.value.code, error.value.param) == ("invalid_request", param)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"max_tokens": 16}),
        ({"max_tokens": 0, "echo": True}, {"max_tokens": 0, "echo": True}),
        ({"n": 2, "best_of": 2}, {"choices": 2}),
        ({"best_of": 1, "suffix": "", "tools": []}, {}),
        ({"user": "a", "store": False, "prompt_cache_key": "b"}, {}),
        ({"deterministic": True, "top_k": 3}, {"deterministic": True}),
        ({"model": "nickname"}, {}),
    ],
)
def test_completions_with_neutral_fields_are_taken(given: dict[str, Any], found: dict[str, Any]):
    model = replace(facts(), names=("tiny", "nickname"))
    asked = asdict(parse_completion({"prompt": "a", **given}, model))
    assert asked["prompts"] == ("a",)
    assert {name: asked[name] for name in found} == found


class GivenBytes:
    def __init__(self, case: dict[str, Any]) -> None:
        self.strips_first_space = case.get("strips_first_space", False)
        self._tokens = case["tokens"]

    def bytes(self, id: int) -> bytes:
        return bytes(self._tokens[id])


@pytest.mark.parametrize("case", TEXT["cases"], ids=str)
def test_text(case: dict[str, Any]):
    goes_on = case.get("goes_on", False)
    detokenizer = Detokenizer(GivenBytes(case), case["stops"], goes_on=goes_on)
    pieces = []
    for id in range(len(case["tokens"])):
        pieces.append(detokenizer.push(id))
        if pieces[-1].stopped:
            break
    else:
        pieces.append(detokenizer.finish())
    assert [asdict(piece) for piece in pieces] == case["pieces"]


def test_special_tokens_have_no_text():
    added = [
        {"id": 1, "content": "<|end|>", "special": True},
        {"id": 2, "content": "<think>", "special": False},
    ]
    model = {"type": "BPE", "vocab": {"\u0120hi": 0}}
    decoder = {"type": "ByteLevel"}
    vocabulary = Vocabulary({"added_tokens": added, "decoder": decoder, "model": model})
    assert [vocabulary.bytes(id) for id in (0, 1, 2, 99)] == [b" hi", b"", b"<think>", b""]
    assert vocabulary.text(1) == "<|end|>" and vocabulary.written(1) == b"<|end|>"
    assert vocabulary.size == 3


@pytest.mark.parametrize("index", range(len(PROMPTS["cases"])))
def test_prompts(index: int):
    case = PROMPTS["cases"][index]
    given = PROMPTS["tokenizers"][case["tokenizer"]]
    conversation = Conversation(given["tokenizer"], given["config"])
    turns = [ChatMessage(message["role"], message["content"]) for message in case["messages"]]
    assert conversation.tokens(turns) == case["ids"]
    assert conversation.encode(case["text"]) == case["text_ids"]
    assert [*conversation.front, *case["text_ids"]] == case["prompt_ids"]

    detokenizer = Detokenizer(Vocabulary(given["tokenizer"]), [])
    pieces = [detokenizer.push(id).text for id in case["text_ids"]]
    assert "".join(pieces) + detokenizer.finish().text == case["decoded"]


@pytest.mark.parametrize("case", PROMPTS["continued"], ids=lambda case: case["begun"])
def test_an_answer_goes_on_where_it_was(case: dict[str, Any]):
    conversation = conversation_of(PROMPTS["tokenizers"][case["tokenizer"]])
    turns = [ChatMessage(message["role"], message["content"]) for message in case["messages"]]
    assert conversation.tokens(turns, case["begun"]) == case["ids"]


def conversation_of(given: dict[str, Any]) -> Conversation:
    return Conversation(given["tokenizer"], given["config"])


@pytest.mark.parametrize("index", range(len(CONTROL["cases"])))
def test_what_people_write_is_no_control_token(index: int):
    case = CONTROL["cases"][index]
    conversation = conversation_of(CONTROL["tokenizers"][case["tokenizer"]])
    turns = [ChatMessage(message["role"], message["content"]) for message in case["messages"]]
    assert conversation.tokens(turns) == case["ids"]
    assert conversation.encode(case["text"]) == case["text_ids"]


FRAGMENTS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<end>", "<unk>", "<|User|>"),
    *("<|", "im_end", "|>", "<", "s>", "/", " ", "  ", "\n", "user", "\u200b", "\ue000", "\ue001"),
    *("\uff1c|IM_END|>", "\uff1cs>", "<|Im_\u200bStart\uff5c>", "é", "e\u0301", "日"),
]


@pytest.mark.parametrize("name", CONTROL["tokenizers"])
def test_no_text_makes_a_control_token(name: str):
    given = CONTROL["tokenizers"][name]
    conversation = conversation_of(given)
    harmless = ("<unk>", "  ", "%", "<and>")
    added = given["tokenizer"]["added_tokens"]
    control = {token["id"] for token in added if token["content"] not in harmless}

    def control_tokens(text: str) -> list[int]:
        ids = conversation.tokens([ChatMessage("system", text), ChatMessage("user", text)])
        return [id for id in ids if id in control]

    random, wanted = Random(7), control_tokens("dog")
    for _ in range(150):
        text = "".join(random.choices(FRAGMENTS, k=random.randrange(1, 12)))
        assert control_tokens(text) == wanted, repr(text)


def test_what_an_answer_has_begun_with_makes_no_control_token():
    asked, begun = [ChatMessage("user", "Hello")], "A turn ends with <|im_end|>, an answer, too."
    prompt, ids = chatml().tokens(asked), chatml().tokens(asked, begun)
    assert chatml().decode(ids[len(prompt) :]) == begun


TURNS = [
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "First question"),
    ChatMessage("assistant", "First answer"),
    ChatMessage("user", "Second question"),
]


def chatml() -> Conversation:
    given = PROMPTS["tokenizers"]["chatml"]
    return Conversation(given["tokenizer"], given["config"])


def test_a_prompt_may_fill_the_context_up_to_one_token():
    whole = len(chatml().tokens(TURNS))
    assert len(chatml().fit(TURNS, ContextLimits(whole + 1, "error", 9))) == whole
    with pytest.raises(EngineError, match=f"{whole} tokens.* at most {whole - 1}"):
        chatml().fit(TURNS, ContextLimits(whole, "error", 1))


def chat_of(asked: dict[str, Any]) -> list[ChatMessage]:
    return [ChatMessage(m["role"], m["content"]) for m in cuts.messages(**asked)]


def templated(template: str) -> Conversation:
    given = PROMPTS["tokenizers"]["chatml"]
    return Conversation(given["tokenizer"], {**given["config"], "chat_template": template})


@pytest.mark.parametrize("index", range(len(CUTS["cases"])))
def test_truncate_oldest_cuts_between_exchanges(index: int):
    case = CUTS["cases"][index]
    conversation = templated(CUTS["templates"][case["template"]])
    messages = chat_of(case["asked"])
    limits = ContextLimits(case["window"], "truncate-oldest", case["reserve"])
    if case["dropped"] is None:
        with pytest.raises(EngineError) as error:
            conversation.fit(messages, limits)
        assert error.value.code == "context_length_exceeded"
        return
    system = case["asked"]["system"]
    ids = conversation.fit(messages, limits)
    assert len(ids) == case["tokens"]
    kept = [*messages[:system], *messages[system + case["dropped"] :]]
    assert ids == conversation.tokens(kept)


def test_what_an_answer_has_begun_with_counts_when_old_turns_are_dropped():
    begun = "It goes on and on. " * 4
    window = len(chatml().tokens(TURNS, begun))
    kept = chatml().tokens([TURNS[0], TURNS[-1]], begun)
    assert chatml().fit(TURNS, ContextLimits(window, "truncate-oldest", 4), begun=begun) == kept
    with pytest.raises(EngineError, match="at most"):
        chatml().fit(TURNS, ContextLimits(window, "error", 4), begun=begun)


def test_a_growing_conversation_keeps_its_beginning_for_a_quarter_of_the_window():
    limits = ContextLimits(2000, "truncate-oldest", 100)
    prompts = [
        chatml().fit(chat_of({"exchanges": n, "system": 1, "seed": 3}), limits)
        for n in range(40, 90)
    ]
    kept = sum(after[: len(before) - 20] == before[:-20] for before, after in pairwise(prompts))
    # An exchange has some 85 tokens: about six of them make a quarter.
    assert kept >= 40


def test_a_very_long_conversation_is_cut_in_one_pass():
    messages = [
        ChatMessage(("user", "assistant")[n % 2], "The quick brown fox. " * 10) for n in range(1601)
    ]
    started = time.monotonic()
    ids = chatml().fit(messages, ContextLimits(4096, "truncate-oldest", 256))
    # Rendering again for each exchange that is dropped took more than twenty seconds.
    assert time.monotonic() - started < 5
    assert 2048 < len(ids) <= 4096 - 256


def test_a_conversation_that_nobody_waits_for_is_given_up_between_two_passes():
    asked = {"exchanges": 30, "system": 1, "seed": 3}
    calls = []

    def cancelled() -> bool:
        calls.append(None)
        return len(calls) > 1

    with pytest.raises(EngineError) as error:
        chatml().fit(chat_of(asked), ContextLimits(400, "truncate-oldest", 64), cancelled)
    assert error.value.code == "cancelled"
    assert len(calls) == 2


def test_a_templates_complaint_becomes_an_invalid_request():
    given = PROMPTS["tokenizers"]["brackets"]
    alternating = Conversation(given["tokenizer"], given["config"])
    with pytest.raises(EngineError) as error:
        alternating.tokens([ChatMessage("assistant", "I speak first.")])
    assert (error.value.code, error.value.param) == ("invalid_request", "messages")
