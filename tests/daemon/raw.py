"""Clients that don't behave: bytes on a socket."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.daemon.daemons import TIMEOUT_S, Daemon

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
# Half of a request's head, and half of its body.
HALF_HEAD, HALF_BODY = HEAD + b"X-More: ", POST % 1000 + b"{"


@dataclass(frozen=True)
class Answer:
    """What came until the daemon closed the connection."""

    status: int | None
    headers: dict[str, str]
    body: bytes

    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@contextmanager
def connection(
    daemon: Daemon, sent: bytes = b"", *, source: str = "127.0.0.1", buffer: int | None = None
) -> Iterator[socket.socket]:
    """`buffer`: bytes that the kernel takes for a client that doesn't read."""
    with socket.socket() as client:
        if buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.bind((source, 0))
        client.settimeout(TIMEOUT_S)
        client.connect(("127.0.0.1", daemon.port))
        client.sendall(sent)
        yield client


@contextmanager
def connections(daemon: Daemon, sent: bytes, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connection(daemon, sent)) for _ in range(count)]


def post(body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    return POST % len(content) + content


def drip(client: socket.socket, content: bytes, *, interval_s: float = 0.1) -> Answer:
    """Send a byte at a time until there is an answer, which is read."""
    client.settimeout(interval_s)
    for index in range(len(content)):
        try:
            client.sendall(content[index : index + 1])
            first = client.recv(1)
        except TimeoutError:
            continue
        except OSError:
            first = b""
        client.settimeout(TIMEOUT_S)
        return read_to_end(client, first)
    raise AssertionError("the daemon took it all")


def sip(client: socket.socket, wanted: int, *, bytes_a_second: float) -> int:
    """How many of the bytes that are wanted came before the daemon ended it, read at that pace."""
    start, count = time.monotonic(), 0
    try:
        while count < wanted:
            due = int((time.monotonic() - start) * bytes_a_second) - count
            chunk = client.recv(max(1, due))
            if not chunk:
                break
            count += len(chunk)
            time.sleep(0.02)
    except ConnectionError:
        pass
    return count


def read_to_end(client: socket.socket, first: bytes = b"") -> Answer:
    """All that comes until the daemon closes the connection."""
    content = bytearray(first)
    try:
        while chunk := client.recv(1 << 16):
            content += chunk
    except ConnectionError:
        pass
    head, _, body = bytes(content).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(lines[0].split()[1]) if head else None, headers, body)


def seconds_until(client: socket.socket) -> tuple[float, Answer]:
    start = time.monotonic()
    answer = read_to_end(client)
    return time.monotonic() - start, answer
