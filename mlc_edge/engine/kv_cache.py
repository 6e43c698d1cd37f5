"""Which sequences are in the KV cache: running ones, and finished ones kept for their prefixes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

PAGE_TOKENS = 16
# A shared prefix shorter than a page saves less than its bookkeeping costs.
SHORTEST_SHARED = PAGE_TOKENS
MOST_RETAINED = 64
# Prompts of deterministic requests are computed in runs that begin and end at its multiples; the
# browser's engine has the same.
GRID_TOKENS = 64


class Pages(Protocol):
    """The runner's side of the cache."""

    def add_sequence(self, sequence: int) -> None:
        """Begin a sequence without tokens."""

    def remove_sequence(self, sequence: int) -> None:
        """Forget a sequence."""

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        """Begin a sequence with the first tokens of another."""

    def pop(self, sequence: int, count: int) -> None:
        """Forget the last tokens of a sequence."""

    def available_pages(self) -> int:
        """Pages that no sequence has."""


def pages_of(tokens: int) -> int:
    """Pages that a sequence of so many tokens takes."""
    return -(-tokens // PAGE_TOKENS)


@dataclass
class _Cached:
    """A sequence in the cache.

    The first `on_grid` of its tokens were computed in runs of GRID_TOKENS. `is_whole`: it shares no
    pages, which TVM's runtime attends to apart from the others: that rounds differently. `is_pinned`:
    it has to stay whole.
    """

    is_pinned: bool
    tokens: list[int] = field(default_factory=list)
    on_grid: int = 0
    is_whole: bool = True


class KVCache:
    """Sequences by number, with the tokens whose keys and values are computed."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._running: dict[int, _Cached] = {}
        # The least recently used comes first.
        self._retained: dict[int, _Cached] = {}
        self._next = 0
        self.total_pages = pages.available_pages()

    @property
    def retained_tokens(self) -> int:
        """Tokens of sequences that are kept for their prefixes."""
        return sum(len(cached.tokens) for cached in self._retained.values())

    @property
    def used_tokens(self) -> int:
        """Tokens that there is no room for besides."""
        return (self.total_pages - self._pages.available_pages()) * PAGE_TOKENS

    def begin(self, tokens: Sequence[int]) -> tuple[int, int]:
        """A new sequence for `tokens`: its number, and how many of them needn't be computed.

        At least the last token is left to compute: its logits are wanted.
        """
        parent, shared = self._longest_prefix(list(tokens[:-1]))
        if parent is None or shared < SHORTEST_SHARED:
            return self._add(), 0
        retained = self._retained.get(parent)
        if retained is not None and len(retained.tokens) == shared:
            self._running[parent] = self._retained.pop(parent)
            return parent, shared
        if not self.make_room(1, keep=parent):
            return self._add(), 0
        return self.fork(parent, shared), shared

    def begin_on_grid(self, tokens: Sequence[int]) -> tuple[int, int]:
        """Like `begin`, for a sequence whose every bit depends on its tokens alone.

        Of what is retained, only tokens that were computed as this sequence would compute them are
        taken over, by cutting their sequence short.
        """
        best, shared = None, 0
        for number, cached in self._retained.items():
            same = min(common_prefix(list(tokens[:-1]), cached.tokens), cached.on_grid)
            usable = same // GRID_TOKENS * GRID_TOKENS
            # What would be cut off may be worth more to the conversation that it belongs to.
            if cached.is_whole and usable > shared and 2 * usable >= cached.on_grid:
                best, shared = number, usable
        if best is None:
            return self._add(is_pinned=True), 0
        cached = self._retained.pop(best)
        self._pages.pop(best, len(cached.tokens) - shared)
        self._running[best] = _Cached(True, cached.tokens[:shared], on_grid=shared)
        return best, shared

    def resume(self, number: int, tokens: Sequence[int]) -> bool:
        """Run a retained sequence again; False if it isn't there with these very tokens, whole."""
        cached = self._retained.get(number)
        if cached is None or not cached.is_whole or cached.tokens != list(tokens):
            return False
        cached.is_pinned = True
        self._running[number] = self._retained.pop(number)
        return True

    def fork(self, parent: int, position: int) -> int:
        """A new sequence that shares the first `position` tokens of another."""
        number = self._number()
        self._pages.fork_sequence(parent, number, position)
        source = self._running.get(parent) or self._retained[parent]
        source.is_whole = False
        self._running[number] = _Cached(False, source.tokens[:position], is_whole=False)
        if parent in self._retained:
            self._retained[parent] = self._retained.pop(parent)
        return number

    def append(self, number: int, tokens: Sequence[int]) -> None:
        """The keys and values of `tokens`, one run, were computed for a running sequence."""
        cached = self._running[number]
        if cached.is_whole and cached.on_grid == len(cached.tokens) and len(tokens) == GRID_TOKENS:
            cached.on_grid += GRID_TOKENS
        cached.tokens.extend(tokens)

    def make_room(self, pages: int, keep: int | None = None) -> bool:
        """Free pages of retained sequences until there are `pages`; False if there are too few."""
        while self._pages.available_pages() < pages:
            victim = next((number for number in self._retained if number != keep), None)
            if victim is None:
                return False
            self._forget(victim)
        return True

    def retain(self, number: int) -> None:
        """A running sequence stops: keep it as long as its pages aren't needed."""
        cached = self._running.pop(number)
        cached.is_pinned = False
        self._retained[number] = cached
        if len(self._retained) > MOST_RETAINED:
            self._forget(next(iter(self._retained)))

    def drop(self, number: int) -> None:
        """Free a running sequence's pages."""
        del self._running[number]
        self._pages.remove_sequence(number)

    def _forget(self, number: int) -> None:
        del self._retained[number]
        self._pages.remove_sequence(number)

    def _longest_prefix(self, tokens: list[int]) -> tuple[int | None, int]:
        best: tuple[int | None, int] = (None, 0)
        for number, cached in (*self._running.items(), *self._retained.items()):
            shared = 0 if cached.is_pinned else common_prefix(tokens, cached.tokens)
            if shared > best[1]:
                best = (number, shared)
        return best

    def _add(self, *, is_pinned: bool = False) -> int:
        number = self._number()
        self._pages.add_sequence(number)
        self._running[number] = _Cached(is_pinned)
        return number

    def _number(self) -> int:
        self._next += 1
        return self._next


def common_prefix(left: list[int], right: list[int]) -> int:
    """Length of the longest common beginning, found by comparing halves."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
