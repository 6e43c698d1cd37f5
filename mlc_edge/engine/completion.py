"""From token events to OpenAI's objects."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mlc_edge.engine.generation import TokenEvent, TokenScore
from mlc_edge.openai import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    ContentLogprob,
    Delta,
    Logprobs,
    Message,
    TextChoice,
    TextLogprobs,
    TokenLogprob,
    Usage,
)


class ChatFormat:
    """Answers of /v1/chat/completions."""

    def __init__(self, id: str, model: str, *, logprobs: bool, usage: bool) -> None:
        self._head = _head(id, model)
        self._logprobs = logprobs
        self._usage = usage
        self._begun: set[int] = set()

    def chunks(self, event: TokenEvent) -> Iterator[ChatCompletionChunk]:
        """The chunks of an event; the role comes first, the end in a chunk of its own."""
        index = event.choice
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(ChunkChoice(index, Delta(role="assistant", content="")))
        if event.text or event.logprobs:
            logprobs = _content(event.logprobs) if self._logprobs and event.logprobs else None
            yield self._chunk(ChunkChoice(index, Delta(content=event.text), logprobs))
        if event.finish:
            yield self._chunk(ChunkChoice(index, Delta(), None, event.finish))

    def last(self, usage: Usage) -> ChatCompletionChunk:
        """The chunk that ends a stream with its usage."""
        return ChatCompletionChunk(**self._head, usage=usage, with_usage=True)

    def whole(self, events: Sequence[TokenEvent], usage: Usage) -> ChatCompletion:
        """All events as one object."""
        choices = tuple(
            Choice(
                index,
                Message("".join(event.text for event in parts)),
                _content(_all_logprobs(parts)) if self._logprobs else None,
                parts[-1].finish or "stop",
            )
            for index, parts in enumerate(_by_choice(events))
        )
        return ChatCompletion(**self._head, choices=choices, usage=usage)

    def _chunk(self, choice: ChunkChoice) -> ChatCompletionChunk:
        return ChatCompletionChunk(**self._head, choices=(choice,), with_usage=self._usage)


class TextFormat:
    """Answers of /v1/completions; `echoes` are texts that come before each choice's answer."""

    def __init__(
        self, id: str, model: str, echoes: Sequence[str], *, logprobs: bool, usage: bool
    ) -> None:
        self._head = _head(id, model)
        self._echoes = echoes
        self._logprobs = logprobs
        self._usage = usage
        self._begun: set[int] = set()

    def chunks(self, event: TokenEvent) -> Iterator[CompletionChunk]:
        """The chunk of an event."""
        index = event.choice
        echo = "" if index in self._begun else self._echoes[index]
        self._begun.add(index)
        choice = TextChoice(index, echo + event.text, self._listed([event]), event.finish)
        yield CompletionChunk(**self._head, choices=(choice,), with_usage=self._usage)

    def last(self, usage: Usage) -> CompletionChunk:
        """The chunk that ends a stream with its usage."""
        return CompletionChunk(**self._head, usage=usage, with_usage=True)

    def whole(self, events: Sequence[TokenEvent], usage: Usage) -> Completion:
        """All events as one object."""
        choices = tuple(
            TextChoice(
                index,
                self._echoes[index] + "".join(event.text for event in parts),
                self._listed(parts),
                parts[-1].finish or "stop",
            )
            for index, parts in enumerate(_by_choice(events))
        )
        return Completion(**self._head, choices=choices, usage=usage)

    def _listed(self, events: Sequence[TokenEvent]) -> TextLogprobs | None:
        if not self._logprobs:
            return None
        of_prompt = [score for event in events for score in event.prompt_logprobs]
        of_answer = _all_logprobs(events)
        scores = (*of_prompt, *of_answer)
        after = len(self._echoes[events[0].choice])
        return TextLogprobs(
            tuple(_name(score) for score in scores),
            tuple(score.logprob for score in scores),
            tuple(None if score.logprob is None else _likeliest(score) for score in scores),
            (*(s.offset for s in of_prompt), *(after + s.offset for s in of_answer)),
        )


Format = ChatFormat | TextFormat


def _by_choice(events: Sequence[TokenEvent]) -> list[list[TokenEvent]]:
    parts: list[list[TokenEvent]] = [[] for _ in range(max(event.choice for event in events) + 1)]
    for event in events:
        parts[event.choice].append(event)
    return parts


def _all_logprobs(events: Iterable[TokenEvent]) -> tuple[TokenScore, ...]:
    return tuple(score for event in events for score in event.logprobs)


def _content(scores: Iterable[TokenScore]) -> Logprobs:
    return Logprobs(
        tuple(
            ContentLogprob(score.token, score.logprob or 0.0, score.bytes, score.top)
            for score in scores
        )
    )


def _name(token: TokenLogprob | TokenScore) -> str:
    """The token's text; its bytes, as OpenAI writes them, if they are only a part of a character."""
    try:
        bytes(token.bytes or ()).decode()
    except UnicodeDecodeError:
        return _hex(token)
    return token.token


def _hex(token: TokenLogprob | TokenScore) -> str:
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes or ())


def _likeliest(score: TokenScore) -> dict[str, float]:
    """The most probable tokens by name, and the token itself, as OpenAI gives it beside them."""
    named: dict[str, float] = {}
    for top in score.top:
        name = _name(top)
        # A byte's own token and a character's may have the same text.
        named[_hex(top) if name in named else name] = top.logprob
    is_among = any((top.token, top.bytes) == (score.token, score.bytes) for top in score.top)
    if score.logprob is not None and not is_among:
        named.setdefault(_name(score), score.logprob)
    return named


def _head(id: str, model: str) -> dict[str, Any]:
    return {"id": id, "created": int(time.time()), "model": model}
