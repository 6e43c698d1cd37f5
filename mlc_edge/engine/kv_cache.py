"""Which sequences are in the KV cache: running ones, and finished ones kept for their prefixes."""

from collections.abc import Sequence
from typing import Protocol

PAGE_TOKENS = 16
# A shared prefix shorter than a page saves less than its bookkeeping costs.
SHORTEST_SHARED = PAGE_TOKENS
MOST_RETAINED = 64


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


class KVCache:
    """Sequences by number, with the tokens whose keys and values are computed."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._running: dict[int, list[int]] = {}
        # The least recently used comes first.
        self._retained: dict[int, list[int]] = {}
        self._next = 0
        self.total_pages = pages.available_pages()

    @property
    def retained_tokens(self) -> int:
        """Tokens of sequences that are kept for their prefixes."""
        return sum(map(len, self._retained.values()))

    @property
    def used_tokens(self) -> int:
        """Tokens that there is no room for besides."""
        return (self.total_pages - self._pages.available_pages()) * PAGE_TOKENS

    def begin(self, tokens: Sequence[int]) -> tuple[int, int]:
        """A new sequence for `tokens`: its number, and how many of them needn't be computed.

        At least the last token is left to compute: its logits are wanted.
        """
        wanted = list(tokens[:-1])
        parent, shared = self._longest_prefix(wanted)
        if parent is None or shared < SHORTEST_SHARED:
            return self._add(), 0
        retained = self._retained.get(parent)
        if retained is not None and len(retained) == shared:
            self._running[parent] = self._retained.pop(parent)
            return parent, shared
        if not self.make_room(1, keep=parent):
            return self._add(), 0
        return self.fork(parent, shared), shared

    def fork(self, parent: int, position: int) -> int:
        """A new sequence that shares the first `position` tokens of another."""
        number = self._number()
        self._pages.fork_sequence(parent, number, position)
        self._running[number] = self._tokens(parent)[:position]
        if parent in self._retained:
            self._retained[parent] = self._retained.pop(parent)
        return number

    def append(self, number: int, tokens: Sequence[int]) -> None:
        """The keys and values of `tokens` were computed for a running sequence."""
        self._running[number].extend(tokens)

    def make_room(self, pages: int, keep: int | None = None) -> bool:
        """Free pages of retained sequences until there are `pages`; False if there are too few."""
        while self._pages.available_pages() < pages:
            victim = next((number for number in self._retained if number != keep), None)
            if victim is None:
                return False
            self._forget(victim)
        return True

    def retain(self, number: int) -> None:
        """A running sequence is finished: keep it as long as its pages aren't needed."""
        self._retained[number] = self._running.pop(number)
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
        for number, present in (*self._running.items(), *self._retained.items()):
            shared = common_prefix(tokens, present)
            if shared > best[1]:
                best = (number, shared)
        return best

    def _tokens(self, number: int) -> list[int]:
        return self._running.get(number) or self._retained[number]

    def _add(self) -> int:
        number = self._number()
        self._pages.add_sequence(number)
        self._running[number] = []
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
