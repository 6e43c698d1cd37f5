"""A client that leaves takes its request with it."""

import json
import socket
from contextlib import closing

import pytest

from tests.daemon.daemons import LONG, Daemon, wait_until
from tests.daemon.raw import POST, connection


def send(daemon: Daemon, body: dict[str, object]) -> socket.socket:
    """A connection on which the request was sent, and nothing read."""
    content = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", daemon.port))
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_request_ends_with_its_connection(daemon: Daemon, stream: bool):
    before = daemon.metric("generated_tokens_total")
    body = {**LONG, "stream": stream}
    with closing(send(daemon, body)):
        wait_until(lambda: daemon.metric("active_requests") > 0)
    wait_until(lambda: daemon.metric("active_requests") == 0)
    assert daemon.metric("generated_tokens_total") - before < LONG["max_tokens"] * LONG["n"]
    gone = 'requests_total{route="/v1/chat/completions",status="499"}'
    wait_until(lambda: daemon.metric(gone) > 0)


def test_texts_that_are_tokenized_are_given_up_with_their_clients(daemon: Daemon):
    content = json.dumps({"prompt": "7" * 1_000_000}).encode()
    head = POST.replace(b"/v1/chat/completions", b"/tokenize") % len(content)
    with connection(daemon, head + content):
        pass
    gone = 'requests_total{route="/tokenize",status="499"}'
    wait_until(lambda: gone in daemon.get("metrics").text)


def test_connection_that_closes_within_the_body(daemon: Daemon):
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
    gone = 'requests_total{route="/v1/completions",status="499"}'
    wait_until(lambda: gone in daemon.get("metrics").text)
