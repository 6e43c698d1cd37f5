"""From pieces of answers to OpenAI's objects."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mlc_edge.engine.generation import TokenEvent
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
    Usage,
)


class ChatFormat:
    """Answers of /v1/chat/completions."""

    def __init__(self, id: str, model: str, *, logprobs: bool, usage: bool) -> None:
        self._head = _head(id, model)
        self._logprobs = logprobs
        self._usage = usage
        self._begun: set[int] = set()

    def chunks(self, piece: TokenEvent) -> Iterator[ChatCompletionChunk]:
        """The chunks of a piece; the role comes first, the end in a chunk of its own."""
        index = piece.choice
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(ChunkChoice(index, Delta(role="assistant", content="")))
        if piece.text or piece.logprobs:
            logprobs = Logprobs(piece.logprobs) if self._logprobs and piece.logprobs else None
            yield self._chunk(ChunkChoice(index, Delta(content=piece.text), logprobs))
        if piece.finish:
            yield self._chunk(ChunkChoice(index, Delta(), None, piece.finish))

    def last(self, usage: Usage) -> ChatCompletionChunk:
        """The chunk that ends a stream with its usage."""
        return ChatCompletionChunk(**self._head, usage=usage, with_usage=True)

    def whole(self, events: Sequence[TokenEvent], usage: Usage) -> ChatCompletion:
        """All pieces of all choices as one object."""
        choices = tuple(
            Choice(
                index,
                Message("".join(piece.text for piece in parts)),
                Logprobs(_all_logprobs(parts)) if self._logprobs else None,
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
        self._shown = [0] * len(echoes)

    def chunks(self, piece: TokenEvent) -> Iterator[CompletionChunk]:
        """The chunk of a piece."""
        index = piece.choice
        echo = "" if self._shown[index] else self._echoes[index]
        logprobs = self._listed(piece.logprobs, self._shown[index] + len(echo))
        text = echo + piece.text
        self._shown[index] += len(text)
        choice = TextChoice(index, text, logprobs, piece.finish)
        yield CompletionChunk(**self._head, choices=(choice,), with_usage=self._usage)

    def last(self, usage: Usage) -> CompletionChunk:
        """The chunk that ends a stream with its usage."""
        return CompletionChunk(**self._head, usage=usage, with_usage=True)

    def whole(self, events: Sequence[TokenEvent], usage: Usage) -> Completion:
        """All pieces of all choices as one object."""
        choices = tuple(
            TextChoice(
                index,
                self._echoes[index] + "".join(piece.text for piece in parts),
                self._listed(_all_logprobs(parts), len(self._echoes[index])),
                parts[-1].finish or "stop",
            )
            for index, parts in enumerate(_by_choice(events))
        )
        return Completion(**self._head, choices=choices, usage=usage)

    def _listed(self, content: Sequence[ContentLogprob], offset: int) -> TextLogprobs | None:
        if not self._logprobs:
            return None
        offsets = []
        for entry in content:
            offsets.append(offset)
            offset += len(entry.token)
        return TextLogprobs(
            tuple(entry.token for entry in content),
            tuple(entry.logprob for entry in content),
            tuple({top.token: top.logprob for top in entry.top_logprobs} for entry in content),
            tuple(offsets),
        )


Format = ChatFormat | TextFormat


def _by_choice(events: Sequence[TokenEvent]) -> list[list[TokenEvent]]:
    count = max(event.choice for event in events) + 1
    return [[event for event in events if event.choice == n] for n in range(count)]


def _all_logprobs(parts: Iterable[TokenEvent]) -> tuple[ContentLogprob, ...]:
    return tuple(entry for piece in parts for entry in piece.logprobs)


def _head(id: str, model: str) -> dict[str, Any]:
    return {"id": id, "created": int(time.time()), "model": model}
