"""Clients that take their time or all connections: nobody else waits for them."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from errno import ECONNRESET
from pathlib import Path

import httpx
import pytest

from tests.daemon.daemons import LONG, SHORT, TIMEOUT_S, Daemon, started, wait_until
from tests.daemon.impatient import BODY_S, FLUSH_S, HEAD_S, IDLE_S, WRITE_S
from tests.daemon.raw import (
    HALF_BODY,
    HALF_HEAD,
    HEAD,
    POST,
    connection,
    connections,
    drip,
    post,
    read_to_end,
    seconds_until,
    sip,
)

FILES = 256
# An attack and the one who is attacked come from one address here.
ATTACKERS = 300


@pytest.fixture(scope="module")
def small(bundle: Path) -> Iterator[Daemon]:
    """A daemon that may open few files, and lets many requests wait."""
    python = ("prlimit", f"--nofile={FILES}:{FILES}", sys.executable)
    options = ("--max-batch", 1, "--max-queue", 1000, "--log-level", "debug")
    with started(bundle, *options, python=python) as daemon:
        yield daemon
        assert not daemon.log.find("Traceback|system resource|Too many open files")


@pytest.fixture(scope="module")
def impatient(bundle: Path) -> Iterator[Daemon]:
    with started(bundle, python=(sys.executable, "-m", "tests.daemon.impatient")) as daemon:
        yield daemon
        assert not daemon.log.find("Traceback")


def files(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


@pytest.mark.parametrize("half", [b"", HALF_HEAD, HALF_BODY])
def test_half_sent_requests_block_nobody(small: Daemon, half: bytes):
    with connections(small, half, ATTACKERS):
        for _ in range(20):
            assert small.get("health").status_code == 200
        wait_until(lambda: small.ask(json=SHORT).status_code == 200)
        assert files(small) < FILES
    small.log.wait_for("WARNING.* connections are in use")


def test_many_addresses_leave_files_for_what_is_served(small: Daemon):
    """No address has more than its share; together they want more than there is."""
    with ExitStack() as stack:
        for index in range(ATTACKERS):
            source = f"127.0.1.{1 + index % 30}"
            stack.enter_context(connection(small, HALF_HEAD, source=source))
        wait_until(lambda: small.get("").status_code == 200)
        assert files(small) < FILES


def test_who_has_waited_longest_makes_way(small: Daemon):
    with connection(small, HALF_HEAD) as oldest, connections(small, HALF_HEAD, ATTACKERS) as later:
        assert read_to_end(oldest).status is None
        later[-1].sendall(b"x\r\n\r\n")
        assert b" 200 " in later[-1].recv(100)


def test_connections_that_rest_make_way(small: Daemon):
    with ExitStack() as stack:
        for _ in range(FILES // 2):
            client = stack.enter_context(connection(small, HEAD + b"\r\n"))
            assert b" 200 " in client.recv(1 << 16)
        assert small.ask(json=SHORT).status_code == 200
        assert files(small) < FILES


def test_requests_that_run_are_not_ended_for_others(small: Daemon):
    """An address that has its share gets a refusal, or an answer on /health; others get theirs."""
    refusals = 'requests_total{route="/v1/chat/completions",status="503"}'
    with connections(small, post(LONG), FILES // 2) as clients:
        wait_until(lambda: refusals in small.get("metrics").text)
        refused = small.ask(json=SHORT)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "too_many_connections"
        assert refused.json()["error"]["type"] == "service_unavailable"
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["connection"] == "close"
        health = small.get("health")
        assert (health.status_code, health.headers["connection"]) == (200, "close")
        with connection(small, HEAD + b"\r\n", source="127.0.0.2") as other:
            assert b" 200 " in other.recv(100)
        elsewhere = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with connection(small, elsewhere, source="127.0.0.2") as other:
            assert read_to_end(other).status == 200
        assert b" 200 " in clients[0].recv(100)
    # Until the places of those that left are free, this is refused, too.
    wait_until(lambda: "\nmlc_edge_active_requests 0" in small.get("metrics").text)
    assert small.ask(json=SHORT).status_code == 200


def test_time_that_clients_have(bundle: Path):
    """As the README says, by a daemon as an owner starts it."""
    with (
        started(bundle) as daemon,
        connection(daemon, HALF_HEAD) as head,
        connection(daemon, HALF_BODY) as body,
    ):
        for client in (head, body):
            seconds, answer = seconds_until(client)
            assert (answer.status, answer.code()) == (408, "request_timeout")
            assert answer.headers["connection"] == "close"
            # Both began at the same time, and were waited for in turn.
            assert seconds < 20
        assert seconds < 5


def test_silent_connections_are_closed_without_a_word(impatient: Daemon):
    with connection(impatient) as client:
        assert read_to_end(client).status is None


def test_a_head_that_drips_has_as_long_as_one_that_stops(impatient: Daemon):
    with connection(impatient, HEAD) as client:
        answer = drip(client, b"X: " + b"x" * 1000)
    assert (answer.status, answer.code()) == (408, "request_timeout")
    assert f"{HEAD_S} s" in json.loads(answer.body)["error"]["message"]


def test_a_body_that_drips_has_its_time_in_all(impatient: Daemon):
    with connection(impatient, POST % 1000) as client:
        answer = drip(client, b" " * 1000, interval_s=0.2)
    assert (answer.status, answer.code()) == (408, "request_timeout")
    assert f"longer than {BODY_S} s" in json.loads(answer.body)["error"]["message"]


def test_a_body_that_nobody_reads_keeps_no_connection(impatient: Daemon):
    """The address is wrong: the answer doesn't wait for the body."""
    request = b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with connection(impatient, request) as client:
        assert client.recv(12) == b"HTTP/1.1 404"
        while b"not_found" not in client.recv(1000):
            pass
        assert drip(client, b"x" * 1000).status is None


def test_connections_may_rest_between_requests_but_not_for_long(impatient: Daemon):
    with connection(impatient, HEAD + b"\r\n") as client:
        seconds, answer = seconds_until(client)
        assert answer.status == 200
        assert HEAD_S < seconds < 5 * IDLE_S


def test_a_stream_that_nobody_reads_is_ended_and_no_other(impatient: Daemon):
    gone = 'requests_total{route="/v1/chat/completions",status="499"}'
    # More than fits in any buffer, for longer than the daemon is patient.
    much = {**LONG, "temperature": 2, "logprobs": True, "top_logprobs": 20}
    asked = {**LONG, "n": 1, "temperature": 2}
    url = f"{impatient.api}/chat/completions"
    with httpx.stream("POST", url, json=asked, timeout=TIMEOUT_S) as response:
        lines = response.iter_lines()
        next(lines)
        with connection(impatient, post(much), buffer=4096):
            *_, last = (line for line in lines if line)
            wait_until(lambda: gone in impatient.get("metrics").text)
    assert last == "data: [DONE]"
    wait_until(lambda: impatient.metric("active_requests") == 0)


@pytest.mark.parametrize("path", ["/", "/bundles/index.json"])
def test_answers_that_nobody_reads_hold_no_connection(impatient: Daemon, path: str):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 2000
    with connection(impatient, buffer=4096) as client:
        client.setblocking(False)
        assert client.send(request) > 1000
        # Closed with requests that it hasn't read, the kernel resets it.
        wait_until(lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == ECONNRESET)


# A token for each letter: an answer of 3 MB, which is written at once.
MUCH_TEXT = json.dumps({"prompt": "7" * 1_000_000}).encode()
MUCH = POST.replace(b"/v1/chat/completions", b"/tokenize") % len(MUCH_TEXT) + MUCH_TEXT
MUCH_BYTES = 3_000_000


def test_a_large_answer_may_be_read_slowly(impatient: Daemon):
    closing = MUCH.replace(b"Host:", b"Connection: close\r\nHost:", 1)

    def read(request: bytes) -> int:
        with connection(impatient, request, buffer=1 << 16) as client:
            return sip(client, MUCH_BYTES, bytes_a_second=MUCH_BYTES / (2.5 * WRITE_S))

    with ThreadPoolExecutor() as readers:
        assert min(readers.map(read, (MUCH, closing))) >= MUCH_BYTES


def test_but_not_for_ever(impatient: Daemon):
    pace = MUCH_BYTES / (2.5 * FLUSH_S)
    with connection(impatient, MUCH, buffer=1 << 16) as client:
        assert 2 * WRITE_S * pace < sip(client, MUCH_BYTES, bytes_a_second=pace) < MUCH_BYTES
