"""Who gets a connection when many want one."""

from dataclasses import dataclass

import pytest

from edge.daemon.admission import SPARE, Admission, neighbourhood


@dataclass(eq=False)
class Client:
    neighbourhood: str
    gone: bool = False

    def make_way(self) -> None:
        self.gone = True


def enter(admission: Admission, address: str, count: int, *, busy: bool = False) -> list[Client]:
    """Those that got in as more than spare ones."""
    entered = []
    for client in [Client(address) for _ in range(count)]:
        if admission.enter(client):
            entered.append(client)
        if busy:
            admission.is_answered(client)
    return entered


def test_an_address_gets_two_thirds_and_others_still_get_some():
    admission = Admission(90)
    assert len(enter(admission, "a", 90, busy=True)) == 60
    assert len(enter(admission, "b", 90, busy=True)) == 20
    assert len(enter(admission, "c", 90, busy=True)) == 7
    assert len(enter(admission, "d", 90, busy=True)) == 2


def test_requests_that_are_answered_never_make_way():
    admission = Admission(9)
    running = enter(admission, "a", 9, busy=True)
    enter(admission, "a", 100)
    enter(admission, "b", 100)
    assert len(running) == 6
    assert not any(client.gone for client in running)


def test_who_has_no_request_makes_way_before_who_sends_one():
    admission = Admission(6)
    first, second, third, fourth = enter(admission, "a", 4)
    admission.uploads(first)
    admission.is_answered(second)
    enter(admission, "a", SPARE)
    for expected in ([third], [third, fourth]):
        (newcomer,) = enter(admission, "a", 1, busy=True)
        assert [client for client in (first, second, third, fourth) if client.gone] == expected
    (newcomer,) = enter(admission, "a", 1)
    assert (first.gone, second.gone, newcomer.gone) == (True, False, False)


def test_who_has_just_come_is_given_time_while_there_are_spare_places():
    admission = Admission(3)
    old, new = enter(admission, "a", 2)
    for member in (old, new):
        admission.uploads(member)
    assert not enter(admission, "a", SPARE)
    admission.waits(old)
    (newcomer,) = enter(admission, "a", 1)
    assert (old.gone, new.gone, newcomer.gone) == (True, False, False)


def test_who_rests_makes_way_before_who_has_just_come():
    admission = Admission(3)
    (resting,) = enter(admission, "a", 1, busy=True)
    (new,) = enter(admission, "a", 1)
    admission.waits(resting)
    assert len(enter(admission, "a", 1)) == 1
    assert (resting.gone, new.gone) == (True, False)


def test_who_waits_at_an_address_that_has_more_makes_way():
    admission = Admission(6)
    hoard = enter(admission, "a", 4)
    enter(admission, "b", 3, busy=True)
    enter(admission, "c", SPARE, busy=True)
    assert len(enter(admission, "b", 1)) == 1
    assert hoard[0].gone


def test_who_leaves_makes_room():
    admission = Admission(9)
    for _ in range(3):
        clients = enter(admission, "a", 100, busy=True)
        assert len(clients) == 6
        for client in clients:
            admission.leave(client)
            admission.leave(client)


def test_spare_places_go_to_the_newest():
    admission = Admission(3)
    enter(admission, "a", 3, busy=True)
    spare = [Client("a") for _ in range(SPARE + 1)]
    assert not any(admission.enter(client) for client in spare)
    assert [client.gone for client in spare] == [True] + [False] * SPARE


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.168.1.7", "192.168.1.8", False),
        ("2001:db8:1:2::7", "2001:db8:1:2:ffff::8", True),
        ("2001:db8:1:2::7", "2001:db8:1:3::7", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.168.1.7", "192.168.1.7", True),
        ("", "", True),
    ],
)
def test_addresses_of_one_machine_count_as_one(one: str, other: str, same: bool):
    assert (neighbourhood(one) == neighbourhood(other)) == same
