"""A request on its way through the engine, and the sequences that it consists of."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from mlc_edge.engine.generation import Generation, TokenEvent
from mlc_edge.engine.kv_cache import GRID_TOKENS
from mlc_edge.errors import EngineError
from mlc_edge.openai import PromptTokensDetails, Usage, UsageExtra


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
    """What a client asked for; `emit` takes its events, on the engine's thread.

    Requests of one `client` share what the scheduler gives to it. `waiting` are sequences that have no
    place in the batch, `last_prefill` is the number of the prefill that last read of its prompts.
    """

    id: str
    client: Hashable
    emit: Callable[[Event], None]
    deterministic: bool = False
    is_aborted: bool = False
    sequences: list["Sequence"] = field(default_factory=list)
    waiting: "deque[Sequence]" = field(default_factory=deque)
    meter: Meter = field(default_factory=Meter)
    arrival: int = 0
    last_prefill: int = 0

    @property
    def finished(self) -> bool:
        """Whether all its choices are complete."""
        return all(sequence.generation.finished for sequence in self.sequences)


@dataclass(eq=False)
class Sequence:
    """One choice of a request.

    `number` names it in the KV cache, which holds the first `computed` of its tokens; `parked` is the
    number that it had when it was set back. Of choices with the same prompt the first is the leader:
    its `siblings` wait until it has computed the prompt.
    """

    request: Request
    choice: int
    generation: Generation
    is_leader: bool = True
    siblings: list["Sequence"] = field(default_factory=list)
    number: int | None = None
    parked: int | None = None
    computed: int = 0

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer so far."""
        return self.generation.tokens

    @property
    def is_complete(self) -> bool:
        """Whether the cache holds all its tokens: the next one may be drawn."""
        return self.computed == len(self.tokens)

    @property
    def scores_prompt(self) -> bool:
        """Whether the log probabilities of tokens of its prompt are wanted and not known yet."""
        wanted = self.is_leader and self.generation.scores_prompt
        return wanted and self.computed < self.generation.prompt_length

    @property
    def decodes(self) -> bool:
        """Whether what it computes next is a single token that decode takes; prefill takes runs."""
        if self.request.deterministic:
            return len(self._run_on_grid()) == 1
        return self.computed > 0 and self.computed + 1 == len(self.tokens)

    def run(self, limit: int) -> list[int]:
        """The tokens to compute next, at most `limit`.

        Runs of deterministic requests end on the grid, else nothing: a token's way through prefill or
        decode, and the run that it is in, depend on the request alone.
        """
        if not self.request.deterministic:
            return self.tokens[self.computed : self.computed + limit]
        run = self._run_on_grid()
        return run if len(run) <= limit else []

    def _run_on_grid(self) -> list[int]:
        length = self.generation.prompt_length
        if self.computed >= length:
            return self.tokens[self.computed : self.computed + 1]
        border = (self.computed // GRID_TOKENS + 1) * GRID_TOKENS
        return self.tokens[self.computed : min(border, length)]
