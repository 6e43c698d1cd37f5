"""Which sequences compute what in the next step: queue, fairness, preemption."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mlc_edge.engine.kv_cache import GRID_TOKENS, KVCache, pages_of
from mlc_edge.engine.request import Request, Sequence
from mlc_edge.errors import EngineError

Run = tuple[Sequence, list[int]]


@dataclass(frozen=True)
class Limits:
    """Sequences and prompt tokens of one step; `scored` of these where all their logits are wanted."""

    batch: int
    prefill_chunk: int
    scored: int


class Scheduler:
    """Shares the batch among clients, and what a client has among its requests; for one thread.

    A place goes to the client that has fewest, then to its request that has fewest, then in the order
    of arrival, in which a request's nth sequence counts as if it had come n requests later. Places are
    taken back from those who have two more than whoever waits.
    """

    def __init__(self, cache: KVCache, limits: Limits) -> None:
        self._cache = cache
        self._limits = limits
        self._arrivals = self._prefills = 0
        self._requests: dict[Request, None] = {}
        self.running: list[Sequence] = []
        self.preemptions = 0

    def __contains__(self, request: Request) -> bool:
        return request in self._requests

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._requests

    @property
    def requests(self) -> list[Request]:
        """All that aren't finished, in the order of their arrival."""
        return list(self._requests)

    @property
    def waiting(self) -> int:
        """Sequences without a place in the batch."""
        return sum(
            len(request.waiting) + sum(len(sequence.siblings) for sequence in request.sequences)
            for request in self._requests
        )

    def submit(self, request: Request) -> None:
        """Queue a request's sequences."""
        self._arrivals += 1
        request.arrival = self._arrivals
        siblings = {sibling for leader in request.sequences for sibling in leader.siblings}
        request.waiting.extend(s for s in request.sequences if s not in siblings)
        self._requests[request] = None

    def drop(self, request: Request) -> None:
        """Forget a request and free its pages."""
        self._requests.pop(request, None)
        for sequence in [s for s in self.running if s.request is request]:
            self.running.remove(sequence)
            self._release(sequence)

    def admit(self) -> None:
        """Give places in the batch, as long as there is room in the cache for what takes them."""
        while any(request.waiting for request in self._requests):
            load = _Load(self.running)
            request = min((r for r in self._requests if r.waiting), key=load.claim)
            sequence = request.waiting[0]
            victim = None
            if len(self.running) >= self._limits.batch:
                victim = load.overloaded(request)
                if victim is None:
                    return
            others = [other for other in self.running if other is not victim]
            if others and not self._fits([*others, sequence]):
                return
            if victim is not None:
                self._park(victim)
            request.waiting.popleft()
            self._start(sequence)

    def fork_siblings(self, leader: Sequence) -> list[Sequence]:
        """Start choices that share `leader`'s prompt, now that it is computed; others wait."""
        started = []
        has_rivals = any(r.waiting for r in self._requests if r is not leader.request)
        for sibling in leader.siblings:
            has_place = len(self.running) < self._limits.batch and not has_rivals
            if has_place and self._cache.make_room(1):
                assert leader.number is not None
                sibling.number = self._cache.fork(leader.number, leader.computed)
                sibling.computed = leader.computed
                self.running.append(sibling)
                started.append(sibling)
            else:
                sibling.request.waiting.append(sibling)
        leader.siblings = []
        return started

    def prefills(self, budget: int) -> list[Run]:
        """Runs of prompts for the next prefill, about `budget` tokens; requests take turns."""
        while True:
            unread = [s for s in self.running if not s.decodes]
            budget = min(budget, self._limits.prefill_chunk)
            runs = _take_turns(unread, budget, self._limits.scored)
            if not runs or self._make_room([(sequence, len(run)) for sequence, run in runs]):
                self._prefills += 1
                for sequence, _ in runs:
                    sequence.request.last_prefill = self._prefills
                return runs

    def decodes(self) -> list[Sequence]:
        """Sequences that compute one token each."""
        while True:
            ready = [sequence for sequence in self.running if sequence.decodes]
            if not ready or self._make_room([(sequence, 1) for sequence in ready]):
                return ready

    def computed(self, sequence: Sequence, tokens: list[int]) -> None:
        """A step has computed these of the sequence's tokens, in one run."""
        assert sequence.number is not None
        self._cache.append(sequence.number, tokens)
        sequence.computed += len(tokens)

    def finish(self, sequence: Sequence) -> None:
        """A choice is complete: its tokens stay in the cache as long as there is room."""
        self.running.remove(sequence)
        if sequence.number is not None:
            self._cache.retain(sequence.number)
            sequence.number = None
        if sequence.request.finished:
            self._requests.pop(sequence.request, None)

    def begin_anew(self, cache: KVCache) -> list[Request]:
        """Go on with another, empty cache; gives the requests that ran, which are forgotten."""
        self._cache = cache
        lost = list(dict.fromkeys(sequence.request for sequence in self.running))
        self.running = []
        for request in lost:
            self._requests.pop(request, None)
        for request in self._requests:
            for sequence in request.waiting:
                sequence.parked, sequence.computed = None, 0
        return lost

    def _start(self, sequence: Sequence) -> None:
        request = sequence.request
        if sequence.parked is not None and self._cache.resume(
            sequence.parked, sequence.tokens[: sequence.computed]
        ):
            sequence.number = sequence.parked
        elif sequence.scores_prompt:
            sequence.number, sequence.computed = self._cache.begin([])
        elif request.deterministic:
            prompt = sequence.tokens[: sequence.generation.prompt_length]
            sequence.number, sequence.computed = self._cache.begin_on_grid(prompt)
        else:
            sequence.number, sequence.computed = self._cache.begin(sequence.tokens)
        sequence.parked = None
        if sequence.is_leader and not sequence.generation.length:
            request.meter.cached_tokens += sequence.computed
        self.running.append(sequence)

    def _fits(self, sequences: Iterable[Sequence]) -> bool:
        """Whether these would have room for one more token each."""
        needed = sum(pages_of(len(sequence.tokens) + 1) for sequence in sequences)
        return needed <= self._cache.total_pages

    def _make_room(self, growth: list[tuple[Sequence, int]]) -> bool:
        """Free pages for the step; False if a running sequence had to make way for that.

        Pages in use <= total, else the youngest request's youngest sequence is preempted.
        """
        pages = sum(
            pages_of(sequence.computed + count) - pages_of(sequence.computed)
            for sequence, count in growth
        )
        if self._cache.make_room(pages):
            return True
        if len(self.running) == 1:
            raise EngineError(
                "out_of_memory",
                f"The KV cache has {self._cache.total_pages} pages, too few for this request alone.",
                "Shorten the request, or give the engine more memory.",
            )
        victim = max(self.running, key=lambda s: (s.request.arrival, s.choice))
        self.running.remove(victim)
        self._release(victim)
        victim.request.waiting.appendleft(victim)
        self.preemptions += 1
        return False

    def _park(self, sequence: Sequence) -> None:
        """Set a sequence back for the sake of others; what it computed stays while there is room."""
        assert sequence.number is not None
        self.running.remove(sequence)
        self._cache.retain(sequence.number)
        sequence.parked, sequence.number = sequence.number, None
        sequence.request.waiting.appendleft(sequence)
        self.preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        if sequence.number is not None:
            self._cache.drop(sequence.number)
        sequence.number, sequence.parked, sequence.computed = None, None, 0


class _Load:
    """Places of the batch by client and by request."""

    def __init__(self, running: list[Sequence]) -> None:
        self._running = running
        self._of_client = Counter(sequence.request.client for sequence in running)
        self._of_request = Counter(sequence.request for sequence in running)

    def claim(self, request: Request) -> tuple[int, int, int, int]:
        """Who has the smallest gets the next place."""
        nth = request.waiting[0].choice
        return (*self._places(request), request.arrival + nth, nth)

    def overloaded(self, request: Request) -> Sequence | None:
        """The sequence that `request` may take the place of: the youngest of who has two more."""
        client, own = self._places(request)

        def has_more(other: Request) -> bool:
            others, its_own = self._places(other)
            if other.client != request.client:
                return others >= client + 2
            return its_own >= own + 2

        rich = [s for s in self._running if has_more(s.request)]
        return max(rich, key=self._affordable, default=None)

    def _affordable(self, sequence: Sequence) -> tuple[int, ...]:
        return (*self._places(sequence.request), sequence.request.arrival, sequence.choice)

    def _places(self, request: Request) -> tuple[int, int]:
        return self._of_client[request.client], self._of_request[request]


def _take_turns(sequences: list[Sequence], budget: int, scored: int) -> list[Run]:
    """Runs of about `budget` tokens together; who waited longest comes first.

    That one always gets a run, be it longer than the budget.
    """
    order = sorted(sequences, key=lambda s: (s.request.last_prefill, s.request.arrival, s.choice))
    if order and order[0].scores_prompt:
        return [(order[0], order[0].run(max(GRID_TOKENS, min(budget, scored))))]
    order = [sequence for sequence in order if not sequence.scores_prompt]
    runs = []
    for sequence in order:
        run = sequence.run(budget)
        if run:
            runs.append((sequence, run))
            budget -= len(run)
    if order and not runs:
        runs.append((order[0], order[0].run(GRID_TOKENS)))
    return runs
