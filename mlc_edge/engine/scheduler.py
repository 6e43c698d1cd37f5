"""Which sequences compute what in the next step: queue, fairness, preemption."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mlc_edge.engine.kv_cache import KVCache, pages_of
from mlc_edge.engine.request import Request, Sequence
from mlc_edge.errors import EngineError

# Prompts are read in turns of so many tokens: the next token of an generation waits for no more, and short
# prompts don't wait for the whole of a long one.
TURN_TOKENS = 128


@dataclass(frozen=True)
class Limits:
    """Sequences and prompt tokens of one step."""

    batch: int
    prefill_chunk: int


class Scheduler:
    """Requests in the order of their arrival; for the engine's thread only."""

    def __init__(self, cache: KVCache, limits: Limits) -> None:
        self._cache = cache
        self._limits = limits
        self._arrivals = self._turn = 0
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.running

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Queue choices of a request."""
        for sequence in sequences:
            self._arrivals += 1
            sequence.arrival = self._arrivals
            self.waiting.append(sequence)

    def drop(self, request: Request) -> None:
        """Forget a request and free its pages."""
        self.waiting = deque(
            sequence for sequence in self.waiting if sequence.request is not request
        )
        for sequence in [sequence for sequence in self.running if sequence.request is request]:
            self.running.remove(sequence)
            self._release(sequence)

    def admit(self) -> None:
        """Take waiting choices into the batch while there is room for their prompts."""
        while self.waiting and len(self.running) < self._limits.batch:
            sequence = self.waiting[0]
            if self.running and not self._fits(sequence):
                return
            self.waiting.popleft()
            sequence.number, sequence.computed = self._cache.begin(sequence.generation.tokens)
            if sequence.is_leader and not sequence.generation.length:
                sequence.request.meter.cached_tokens += sequence.computed
            self.running.append(sequence)

    def _fits(self, sequence: Sequence) -> bool:
        """Whether all running sequences and this one would have room for one more token each."""
        lengths = [len(other.generation.tokens) + 1 for other in (*self.running, sequence)]
        return sum(map(pages_of, lengths)) <= self._cache.total_pages

    def fork_siblings(self, leader: Sequence) -> list[Sequence]:
        """Start choices that share `leader`'s prompt, now that it is computed; others wait."""
        started = []
        for sibling in leader.siblings:
            if len(self.running) < self._limits.batch and self._cache.make_room(1):
                assert leader.number is not None
                sibling.number = self._cache.fork(leader.number, leader.computed)
                sibling.computed = leader.computed
                self.running.append(sibling)
                started.append(sibling)
            else:
                self.waiting.append(sibling)
        leader.siblings = []
        return started

    def prefills(self) -> list[tuple[Sequence, list[int]]]:
        """Runs of prompts for the next prefill, shared fairly among those who need one."""
        while True:
            needy = [sequence for sequence in self.running if not sequence.decodes]
            if not needy:
                return []
            decoding = len(needy) < len(self.running)
            budget = self._limits.prefill_chunk
            runs = _share(needy, min(budget, TURN_TOKENS) if decoding else budget)
            if self._make_room([(sequence, len(run)) for sequence, run in runs]):
                self._turn += 1
                for sequence, _ in runs:
                    sequence.last_turn = self._turn
                return runs

    def decodes(self) -> list[Sequence]:
        """Sequences that compute one token each."""
        while True:
            ready = [sequence for sequence in self.running if sequence.decodes]
            if not ready or self._make_room([(sequence, 1) for sequence in ready]):
                return ready

    def computed(self, sequence: Sequence, tokens: list[int]) -> None:
        """A step has computed these of the sequence's tokens."""
        assert sequence.number is not None
        self._cache.append(sequence.number, tokens)
        sequence.computed += len(tokens)

    def finish(self, sequence: Sequence) -> None:
        """The generation is complete: its tokens stay in the cache as long as there is room."""
        self.running.remove(sequence)
        if sequence.number is not None:
            self._cache.retain(sequence.number)
            sequence.number = None

    def _make_room(self, growth: list[tuple[Sequence, int]]) -> bool:
        """Free pages for the step; False if a running sequence had to make way for that."""
        pages = sum(
            pages_of(sequence.computed + count) - pages_of(sequence.computed)
            for sequence, count in growth
        )
        if self._cache.make_room(pages):
            return True
        victim = max(self.running, key=lambda sequence: sequence.arrival)
        if len(self.running) == 1:
            raise EngineError(
                "out_of_memory",
                f"The KV cache has {self._cache.total_pages} pages, too few for this request alone.",
                "Shorten the request, or give the engine more memory.",
            )
        self._preempt(victim)
        return False

    def _preempt(self, sequence: Sequence) -> None:
        """Set a sequence back: it keeps its tokens and computes them again when there is room."""
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)
        self.preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        if sequence.number is not None:
            self._cache.drop(sequence.number)
        sequence.number, sequence.computed = None, 0


def _share(sequences: list[Sequence], budget: int) -> list[tuple[Sequence, list[int]]]:
    """A run of tokens for each whose turn it is, who waited longest first; what is left goes to them, too."""
    order = sorted(sequences, key=lambda sequence: (sequence.last_turn, sequence.arrival))
    given = dict.fromkeys(order, 0)
    for most in (TURN_TOKENS, budget):
        for sequence in order:
            more = min(len(sequence.pending) - given[sequence], most, budget)
            given[sequence] += more
            budget -= more
    return [(sequence, sequence.pending[:count]) for sequence, count in given.items() if count]
