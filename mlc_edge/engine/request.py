"""A request on its way through the engine."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlc_edge.engine.generation import Generation, Piece
from mlc_edge.errors import EngineError
from mlc_edge.openai import PromptTokensDetails, Usage, UsageExtra


@dataclass(frozen=True)
class TokenEvent:
    """A piece of one choice."""

    choice: int
    piece: Piece


@dataclass(frozen=True)
class Finished:
    """All choices are complete."""

    usage: Usage


Event = TokenEvent | Finished | EngineError


@dataclass
class Meter:
    """Counts tokens and time of one request; its time runs from its creation."""

    started: float = field(default_factory=time.perf_counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    first_token_s: float | None = None
    prefill_s: float = 0.0
    decoded_tokens: int = 0
    decode_s: float = 0.0

    def drew(self) -> None:
        """A token was drawn."""
        self.answer_tokens += 1
        if self.first_token_s is None:
            self.first_token_s = time.perf_counter() - self.started

    def usage(self) -> Usage:
        """Tokens and speed so far."""
        computed = self.prompt_tokens - self.cached_tokens
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.answer_tokens,
            total_tokens=self.prompt_tokens + self.answer_tokens,
            prompt_tokens_details=PromptTokensDetails(self.cached_tokens),
            extra=UsageExtra(
                prefill_tokens_per_s=_per_second(computed, self.prefill_s),
                decode_tokens_per_s=_per_second(self.decoded_tokens, self.decode_s),
                time_to_first_token_s=self.first_token_s,
                cached_tokens=self.cached_tokens,
                e2e_latency_s=time.perf_counter() - self.started,
            ),
        )


def _per_second(count: int, seconds: float) -> float | None:
    return count / seconds if count > 0 and seconds > 0 else None


@dataclass(eq=False)
class Request:
    """A request: `emit` takes its events, on the engine's thread."""

    emit: Callable[[Event], None]
    sequences: list["Sequence"] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)

    @property
    def finished(self) -> bool:
        """Whether all its choices are complete."""
        return all(sequence.generation.finished for sequence in self.sequences)


@dataclass(eq=False)
class Sequence:
    """One choice of a request.

    `number` is its sequence in the KV cache, which holds the first `computed` of its tokens. `siblings`
    are choices with the same prompt, which wait until this one, the leader, has computed it.
    `last_turn` is the prefill in which it last had its turn.
    """

    request: Request
    choice: int
    generation: Generation
    is_leader: bool = True
    siblings: list["Sequence"] = field(default_factory=list)
    arrival: int = 0
    last_turn: int = 0
    number: int | None = None
    computed: int = 0

    @property
    def pending(self) -> list[int]:
        """Tokens that are still to compute."""
        return self.generation.tokens[self.computed :]

    @property
    def decodes(self) -> bool:
        """Whether one token is left, whose logits give the next."""
        return self.computed > 0 and self.computed + 1 == len(self.generation.tokens)
