"""HTTP itself: old versions, HEAD, what is too large, what is none."""

import httpx
import pytest

from tests.daemon.daemons import SHORT, Daemon
from tests.daemon.raw import HEAD, POST, Answer, connection, post, read_to_end

CLOSE = b"Connection: close\r\n\r\n"


def answer(daemon: Daemon, request: bytes) -> Answer:
    with connection(daemon, request) as client:
        return read_to_end(client)


def test_http_1_0_needs_no_host(daemon: Daemon):
    """As load balancers ask; browsers, which other sites can lead here, name a host."""
    for path in (b"/health", b"/v1/models"):
        assert answer(daemon, b"GET %s HTTP/1.0\r\n\r\n" % path).status == 200
    other = b"GET /health HTTP/1.0\r\nHost: evil.example.com\r\n\r\n"
    assert answer(daemon, other).code() == "host_not_allowed"
    assert answer(daemon, b"GET /health HTTP/1.1\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "path", ["/", "/health", "/ready", "/metrics", "/v1/models", "/v1/nothing"]
)
def test_head_is_get_without_a_body(http: httpx.Client, path: str):
    get, head = http.get(path), http.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-type", "cache-control", "x-content-type-options"):
        assert head.headers[name] == get.headers[name]
    if path != "/metrics":
        assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["x-request-id"] != get.headers["x-request-id"]


def test_head_of_what_takes_posts(http: httpx.Client):
    response = http.head("/v1/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "more",
    [
        b"X: " + b"x" * 20_000 + b"\r\n" + CLOSE,
        b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(17)) + CLOSE,
        b"X: y\r\n" * 100 + CLOSE,
        b"X: " + b"x" * 20_000,
    ],
    ids=["one line", "many lines", "too many lines", "without an end"],
)
def test_heads_that_are_too_large(daemon: Daemon, more: bytes):
    refused = answer(daemon, HEAD + more)
    assert (refused.status, refused.code()) == (431, "headers_too_large")
    assert refused.headers["connection"] == "close"


def test_heads_that_are_large(daemon: Daemon):
    for more in (b"X: " + b"x" * 15_000 + b"\r\n", b"X: y\r\n" * 90):
        assert answer(daemon, HEAD + more + CLOSE).status == 200


def test_addresses_that_are_too_long_are_refused_and_shown_in_part(daemon: Daemon):
    request = b"GET /health?%s HTTP/1.1\r\nHost: localhost\r\n" % (b"x" * 17_000)
    assert answer(daemon, request + CLOSE).status == 431
    named = b"GET /v1/%s HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: long-path\r\n" % (
        b"x" * 9_000
    )
    assert answer(daemon, named + CLOSE).status == 404
    assert len(daemon.log.wait_for("request_id=long-path.*").string) < 500


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n",
        POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"no number\r\n",
        POST.replace(b"%d", b"1\r\nContent-Length: 2"),
    ],
    ids=["TLS", "header", "chunk", "two lengths"],
)
def test_what_is_no_http(daemon: Daemon, request_: bytes):
    refused = answer(daemon, request_)
    assert (refused.status, refused.code()) == (400, "invalid_http")
    assert daemon.get("health").status_code == 200
    assert not daemon.log.find("Traceback")


def test_what_is_no_http_after_an_answer_is_not_answered(daemon: Daemon):
    """The 404 was sent without its request's body."""
    request = b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connection(daemon, request) as client:
        assert b" 404 " in client.recv(1 << 16)
        client.sendall(b"no number\r\n")
        while client.recv(1 << 16):
            pass
    assert daemon.get("health").status_code == 200
    assert not daemon.log.find("Traceback")


def test_requests_in_one_piece_are_answered_in_turn(daemon: Daemon):
    with connection(daemon, post(SHORT) + HEAD + b"\r\n" + HEAD + CLOSE) as client:
        content = bytearray()
        while chunk := client.recv(1 << 16):
            content += chunk
    assert content.count(b"HTTP/1.1 200 ") == 3
    assert content.index(b"chat.completion") < content.index(b'{"status":"ok"}')
