"""Which sequences compute what in the next step: queue, fairness, preemption."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mlc_edge.engine.job import Job, Work
from mlc_edge.engine.kv_cache import KVCache, pages_of
from mlc_edge.errors import EngineError

# Prompts are read in turns of so many tokens: the next token of an answer waits for no more, and short
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
        self.waiting: deque[Work] = deque()
        self.running: list[Work] = []
        self.preemptions = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.running

    def submit(self, works: Iterable[Work]) -> None:
        """Queue choices of a job."""
        for work in works:
            self._arrivals += 1
            work.arrival = self._arrivals
            self.waiting.append(work)

    def drop(self, job: Job) -> None:
        """Forget a job and free its pages."""
        self.waiting = deque(work for work in self.waiting if work.job is not job)
        for work in [work for work in self.running if work.job is job]:
            self.running.remove(work)
            self._release(work)

    def admit(self) -> None:
        """Take waiting choices into the batch while there is room for their prompts."""
        while self.waiting and len(self.running) < self._limits.batch:
            work = self.waiting[0]
            if self.running and not self._fits(work):
                return
            self.waiting.popleft()
            work.number, work.computed = self._cache.begin(work.answer.tokens)
            if work.is_leader and not work.answer.length:
                work.job.meter.cached_tokens += work.computed
            self.running.append(work)

    def _fits(self, work: Work) -> bool:
        """Whether all running sequences and this one would have room for one more token each."""
        lengths = [len(other.answer.tokens) + 1 for other in (*self.running, work)]
        return sum(map(pages_of, lengths)) <= self._cache.total_pages

    def fork_siblings(self, leader: Work) -> list[Work]:
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

    def prefills(self) -> list[tuple[Work, list[int]]]:
        """Runs of prompts for the next prefill, shared fairly among those who need one."""
        while True:
            needy = [work for work in self.running if not work.decodes]
            if not needy:
                return []
            decoding = len(needy) < len(self.running)
            budget = self._limits.prefill_chunk
            runs = _share(needy, min(budget, TURN_TOKENS) if decoding else budget)
            if self._make_room([(work, len(run)) for work, run in runs]):
                self._turn += 1
                for work, _ in runs:
                    work.last_turn = self._turn
                return runs

    def decodes(self) -> list[Work]:
        """Sequences that compute one token each."""
        while True:
            ready = [work for work in self.running if work.decodes]
            if not ready or self._make_room([(work, 1) for work in ready]):
                return ready

    def computed(self, work: Work, tokens: list[int]) -> None:
        """A step has computed these of the sequence's tokens."""
        assert work.number is not None
        self._cache.append(work.number, tokens)
        work.computed += len(tokens)

    def finish(self, work: Work) -> None:
        """The answer is complete: its tokens stay in the cache as long as there is room."""
        self.running.remove(work)
        if work.number is not None:
            self._cache.retain(work.number)
            work.number = None

    def _make_room(self, growth: list[tuple[Work, int]]) -> bool:
        """Free pages for the step; False if a running sequence had to make way for that."""
        pages = sum(
            pages_of(work.computed + count) - pages_of(work.computed) for work, count in growth
        )
        if self._cache.make_room(pages):
            return True
        victim = max(self.running, key=lambda work: work.arrival)
        if len(self.running) == 1:
            raise EngineError(
                "out_of_memory",
                f"The KV cache has {self._cache.total_pages} pages, too few for this request alone.",
                "Shorten the request, or give the engine more memory.",
            )
        self._preempt(victim)
        return False

    def _preempt(self, work: Work) -> None:
        """Set a sequence back: it keeps its tokens and computes them again when there is room."""
        self.running.remove(work)
        self._release(work)
        self.waiting.appendleft(work)
        self.preemptions += 1

    def _release(self, work: Work) -> None:
        if work.number is not None:
            self._cache.drop(work.number)
        work.number, work.computed = None, 0


def _share(works: list[Work], budget: int) -> list[tuple[Work, list[int]]]:
    """A run of tokens for each whose turn it is, who waited longest first; what is left goes to them, too."""
    order = sorted(works, key=lambda work: (work.last_turn, work.arrival))
    given = dict.fromkeys(order, 0)
    for most in (TURN_TOKENS, budget):
        for work in order:
            more = min(len(work.pending) - given[work], most, budget)
            given[work] += more
            budget -= more
    return [(work, work.pending[:count]) for work, count in given.items() if count]
