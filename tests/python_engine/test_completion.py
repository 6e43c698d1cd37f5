"""Log probabilities in the form of /v1/completions: names, offsets, prompts."""

from typing import Any

import numpy as np
import pytest

from mlc_edge import MLCEngine
from mlc_edge.engine.completion import ChatFormat, TextFormat
from mlc_edge.engine.generation import Generation, GenerationContext, TokenEvent
from mlc_edge.engine.protocol import CompletionRequest, SamplingSettings
from mlc_edge.engine.sampler import Sample, ScoredToken
from mlc_edge.engine.vocabulary import Vocabulary
from mlc_edge.openai import PromptTokensDetails, TextLogprobs, Usage, UsageExtra

# Byte fallback: bytes by themselves, and tokens that share a text with one of them.
PIECES = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "A", "▁so", "né", "e", "</s>"]
TOKENIZER: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {piece: id for id, piece in enumerate(PIECES)}},
    "added_tokens": [
        {"id": PIECES.index(piece), "content": piece, "special": True} for piece in ("<s>", "</s>")
    ],
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
}
NOTHING = UsageExtra(None, None, None, 0, 0.0)
USAGE = Usage(0, 0, 0, PromptTokensDetails(0), NOTHING)


def id_of(token: str | int) -> int:
    return PIECES.index(token if isinstance(token, str) else f"<0x{token:02X}>")


def generation_of(prompt: list[int], **fields: Any) -> Generation:
    request = CompletionRequest(sampling=SamplingSettings(logprobs=2), **fields)
    context = GenerationContext(request, Vocabulary(TOKENIZER), frozenset({id_of("</s>")}), 100, 0)
    return Generation(context, prompt, choice=0)


def events_of(generation: Generation, *tokens: int, top: tuple[ScoredToken, ...] = ()) -> Any:
    events = [generation.accept(Sample(token, -1.0, top)) for token in tokens]
    return [event for event in events if event.text or event.finish or event.logprobs]


def listed(events: list[TokenEvent], echo: str = "") -> TextLogprobs:
    form = TextFormat("cmpl-1", "tiny", [echo], logprobs=True, usage=False)
    logprobs = form.whole(events, USAGE).choices[0].logprobs
    assert logprobs is not None
    return logprobs


def test_offsets_count_the_characters_of_the_text():
    euro = [id_of(byte) for byte in "€".encode()]
    generation = generation_of([id_of("A")], prompts=("A",), max_tokens=8)
    tokens = [id_of("▁so"), id_of("A"), *euro, id_of("né"), id_of("e"), id_of("e")]
    events = events_of(generation, *tokens)
    assert "".join(event.text for event in events) == "soA€néee"
    found = listed(events)
    assert found.text_offset == (0, 2, 3, 3, 3, 4, 6, 7)
    assert found.tokens[2:5] == (r"bytes:\xe2", r"bytes:\x82", r"bytes:\xac")
    # The same in parts of a stream, behind an echo of two characters.
    form = TextFormat("cmpl-1", "tiny", ["A!"], logprobs=True, usage=False)
    choices = [chunk.choices[0] for event in events for chunk in form.chunks(event)]
    assert "".join(choice.text for choice in choices) == "A!soA€néee"
    offsets = [offset for choice in choices for offset in choice.logprobs.text_offset]
    assert offsets == [2, 4, 5, 5, 5, 6, 8, 9]


def test_likeliest_tokens_never_share_a_name():
    top = tuple(
        ScoredToken(id_of(token), -0.1 * n)
        for n, token in enumerate((0xE2, 0x82, "A", 0x41, "</s>", "<s>"))
    )
    generation = generation_of([id_of("A")], prompts=("A",), max_tokens=1)
    found = listed(events_of(generation, id_of("e"), top=top))
    assert found.top_logprobs[0] == pytest.approx(
        {
            r"bytes:\xe2": 0.0,
            r"bytes:\x82": -0.1,
            "A": -0.2,
            r"bytes:\x41": -0.3,
            "</s>": -0.4,
            "<s>": -0.5,
            # The token that was drawn is given beside them.
            "e": -1.0,
        }
    )


def test_a_prompt_is_scored_from_its_second_token_on():
    prompt = [id_of(token) for token in ("<s>", "A", 0xC3, 0xA9, "e")]
    generation = generation_of(prompt, prompts=(tuple(prompt),), max_tokens=1, echo=True)
    logits = np.zeros((5, len(PIECES)), np.float32)
    for row, token in enumerate([*prompt[1:], id_of("e")]):
        logits[row, token] = row + 1
    # In two runs, as prompts are computed; the last row is for the answer's first token.
    generation.score(0, logits[:2])
    generation.score(2, logits[2:])
    found = listed(events_of(generation, id_of("e")), echo="Aée")
    others = len(PIECES) - 1
    wanted = [row + 1 - np.log(np.exp(row + 1) + others) for row in range(4)]
    assert found.tokens == ("<s>", "A", r"bytes:\xc3", r"bytes:\xa9", "e", "e")
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    assert found.token_logprobs[1:] == pytest.approx([*wanted, -1.0], abs=1e-5)
    assert found.text_offset == (0, 0, 1, 1, 2, 3)
    assert list(found.top_logprobs[1]) == ["A", "<s>"]


def test_no_token_is_drawn_where_none_is_wanted():
    generation = generation_of([id_of("A")], prompts=("A",), max_tokens=0, echo=True)
    (event,) = events_of(generation, id_of("e"))
    assert (event.text, event.finish, generation.length) == ("", "length", 0)
    assert generation.finished
    assert listed([event], echo="A").tokens == ("A",)


def test_chats_have_their_own_form():
    generation = generation_of([id_of("A")], prompts=("A",), max_tokens=1)
    events = events_of(generation, id_of("e"), top=(ScoredToken(id_of("A"), -2.0),))
    answer = ChatFormat("chatcmpl-1", "tiny", logprobs=True, usage=False).whole(events, USAGE)
    (content,) = answer.to_dict()["choices"][0]["logprobs"]["content"]
    top = {"token": "A", "logprob": -2.0, "bytes": (0x41,)}
    assert content == {"token": "e", "logprob": -1.0, "bytes": (0x65,), "top_logprobs": (top,)}


TEXT = "Once upon a time 🙂 there was"


def test_an_echoed_prompt_has_the_log_probabilities_that_its_beginnings_give(engine: MLCEngine):
    echoed = engine.completions.create(prompt=TEXT, echo=True, logprobs=3, max_tokens=0)
    choice = echoed.choices[0]
    assert (choice.text, choice.finish_reason) == (TEXT, "length")
    assert echoed.usage.completion_tokens == 0
    found = choice.logprobs
    ids = engine._engine._text.conversation.encode(TEXT)
    assert len(found.tokens) == len(found.text_offset) == len(ids)
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    for place in range(1, len(ids)):
        next_token = engine.completions.create(
            prompt=ids[:place], logprobs=3, max_tokens=1, temperature=0
        )
        wanted = next_token.choices[0].logprobs.top_logprobs[0]
        common = wanted.keys() & found.top_logprobs[place].keys()
        assert len(common) >= 3
        for name in common:
            assert found.top_logprobs[place][name] == pytest.approx(wanted[name], abs=0.02)
        name = found.tokens[place]
        assert found.top_logprobs[place][name] == found.token_logprobs[place]
    whole = [TEXT[offset:] for offset in found.text_offset]
    for name, rest in zip(found.tokens, whole, strict=True):
        assert name.startswith("bytes:") or rest.startswith(name)


def test_echoes_are_scored_for_every_choice_and_in_streams(engine: MLCEngine):
    asked = {"prompt": [TEXT, "Hello"], "n": 2, "echo": True, "logprobs": 1, "max_tokens": 3}
    asked |= {"temperature": 1, "seed": 4, "ignore_eos": True}
    whole = engine.completions.create(**asked)
    first, second, third, _ = (choice.logprobs for choice in whole.choices)
    assert first.tokens[:-3] == second.tokens[:-3] != third.tokens[:-3]
    assert first.token_logprobs[1:-3] == second.token_logprobs[1:-3]
    assert all(value < 0 for value in first.token_logprobs[1:])
    parts: dict[int, list[Any]] = {n: [] for n in range(4)}
    for chunk in engine.completions.create(**asked, stream=True):
        parts[chunk.choices[0].index].append(chunk.choices[0])
    for index, choice in enumerate(whole.choices):
        assert "".join(part.text for part in parts[index]) == choice.text
        for name in ("tokens", "text_offset"):
            together = [entry for part in parts[index] for entry in getattr(part.logprobs, name)]
            assert tuple(together) == getattr(choice.logprobs, name)
