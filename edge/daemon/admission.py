"""Which connections there is room for: files never run out, and no address takes what others need."""

import ipaddress
import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

logger = logging.getLogger(__name__)
# Connections beyond the limit, which get a refusal, or an answer on /health.
SPARE = 16
# Accepted, not yet counted: uvicorn's event loop accepts so many at a time, over three turns.
ACCEPTED_AT_ONCE = 8
RESERVE = SPARE + 4 * ACCEPTED_AT_ONCE
LEAST = 4
# A connection may send a file of the page or of a bundle.
FILES_EACH = 2
# An address gets at most so many times what is left for others.
SHARE = 2
# Of IPv6, a household or a machine has 64 bits to choose from: RFC 6177, RFC 7421.
IPV6_PREFIX = 64
# A request follows its connection within this time on any network, and a short body its head.
GRACE_S = 1
WARNING_INTERVAL_S = 60


class Member(Protocol):
    """A connection as admission sees it."""

    neighbourhood: str

    def make_way(self) -> None:
        """Close at once."""


Group = dict[Member, float]


class Admission:
    """Counts connections; those without a request make way for others, the oldest first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # In the order of entering; until when each is too new to make way.
        self._waiting: Group = {}
        self._resting: Group = {}
        self._uploading: Group = {}
        self._answered: Group = {}
        self._spare: Group = {}
        self._groups: dict[Member, Group] = {}
        self._counts: Counter[str] = Counter()
        self._warned_s = -float(WARNING_INTERVAL_S)

    def enter(self, member: Member) -> bool:
        """Take a new connection in; False: as a spare one, which must not ask for work."""
        group = self._waiting
        if not self._has_room(member.neighbourhood):
            self._warn()
            group = self._make_room(member.neighbourhood)
        group[member] = time.monotonic() + GRACE_S
        self._groups[member] = group
        if group is not self._spare:
            self._counts[member.neighbourhood] += 1
        return group is not self._spare

    def leave(self, member: Member) -> None:
        """It is closed; more than once does no harm."""
        group = self._groups.pop(member, None)
        if group is None:
            return
        del group[member]
        if group is not self._spare:
            self._counts[member.neighbourhood] -= 1
            if not self._counts[member.neighbourhood]:
                del self._counts[member.neighbourhood]

    def waits(self, member: Member) -> None:
        """It has no request: not yet, or not any more."""
        if self._groups.get(member) is not self._waiting:
            self._move(member, self._resting)

    def uploads(self, member: Member) -> None:
        """It sends a request's body."""
        self._move(member, self._uploading)

    def is_answered(self, member: Member) -> None:
        """Its request is whole."""
        self._move(member, self._answered)

    def _has_room(self, neighbourhood: str) -> bool:
        free = self.limit - self._counts.total()
        return self._counts[neighbourhood] < SHARE * free

    def _make_room(self, neighbourhood: str) -> Group:
        """The group that has room now.

        Who has just come is about to ask: the spare places go first, then those of the same burst.
        """
        longest = next(self._victims(neighbourhood), None)
        is_new = longest and time.monotonic() < self._groups[longest][longest]
        if longest is None or (is_new and len(self._spare) < SPARE):
            if len(self._spare) >= SPARE:
                self._dismiss(next(iter(self._spare)))
            return self._spare
        self._dismiss(longest)
        return self._waiting

    def _victims(self, neighbourhood: str) -> Iterator[Member]:
        mine = self._counts[neighbourhood]
        idle = (self._resting, self._waiting)
        yield from (m for group in idle for m in group if m.neighbourhood == neighbourhood)
        yield from (m for group in idle for m in group if self._counts[m.neighbourhood] > mine)
        yield from (m for m in self._uploading if m.neighbourhood == neighbourhood)

    def _dismiss(self, member: Member) -> None:
        self.leave(member)
        member.make_way()

    def _move(self, member: Member, group: Group) -> None:
        now = self._groups.get(member, self._spare)
        if now is not group and now is not self._spare:
            del now[member]
            group[member] = time.monotonic() + GRACE_S if group is self._uploading else 0
            self._groups[member] = group

    def _warn(self) -> None:
        now = time.monotonic()
        if now - self._warned_s >= WARNING_INTERVAL_S:
            self._warned_s = now
            logger.warning(
                "%d of %d connections are in use: those without a request make way, or are refused",
                self._counts.total(),
                self.limit,
            )


def limit_by_files(connections: int) -> int:
    """How many connections this process has files for, given how many of its files are theirs."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = len(os.listdir("/proc/self/fd")) - connections
    return max(LEAST, (allowed - own - RESERVE) // FILES_EACH)


def neighbourhood(host: str) -> str:
    """Addresses that one machine can have at will count as one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
