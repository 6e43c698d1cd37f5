"""The real host on a real socket, with a network that can be told to misbehave."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.server import bind

TIMEOUT_S = 60


class ConnectionCut(Exception):
    """Ends a response before its last byte."""


@dataclass(frozen=True)
class Seen:
    path: str
    range: str | None
    if_range: str | None
    cache_control: str | None


@dataclass
class Network:
    """Between browser and host. Faults are by URL path; each is used up by one response."""

    app: ASGIApp
    seen: list[Seen] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    flips: dict[str, int] = field(default_factory=dict)
    stalls: dict[str, tuple[int, threading.Event]] = field(default_factory=dict)
    """Bytes of the body after which nothing comes until the event."""
    hangs: dict[str, threading.Event] = field(default_factory=dict)
    """Nothing comes, not even headers, until the event; a response that stalls is another one."""
    replies: dict[str, list[Response]] = field(default_factory=dict)
    """What somebody on the way answers in the host's place."""
    headers: dict[str, str] = field(default_factory=dict)
    """In place of the host's own, in every response; an empty one is left out."""

    def requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], Headers(scope=scope)
        wanted = (headers.get(name) for name in ("range", "if-range", "cache-control"))
        self.seen.append(Seen(path, *wanted))
        if replies := self.replies.get(path):
            await replies.pop(0)(scope, receive, send)
            return
        stall = self.stalls.pop(path, None)
        if not stall and (hang := self.hangs.pop(path, None)):
            await wait_for(hang)
        pending_cuts = self.cuts.get(path)
        cut = pending_cuts.pop(0) if pending_cuts else None
        flip = self.flips.get(path, 0) > 0
        if flip:
            self.flips[path] -= 1
        sent = 0

        async def send_badly(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                replace_headers(message, self.headers)
            body = message.get("body", b"")
            if body and flip and sent == 0:
                body = bytes([body[0] ^ 1]) + body[1:]
            if cut is not None and sent + len(body) > cut:
                await send({**message, "body": body[: cut - sent], "more_body": True})
                raise ConnectionCut
            if stall and sent < stall[0] <= sent + len(body):
                head, body = body[: stall[0] - sent], body[stall[0] - sent :]
                await send({**message, "body": head, "more_body": True})
                sent += len(head)
                await wait_for(stall[1])
            if message["type"] == "http.response.body":
                message = {**message, "body": body}
            sent += len(body)
            await send(message)

        await self.app(scope, receive, send_badly)


def replace_headers(message: Message, headers: dict[str, str]) -> None:
    sent = MutableHeaders(scope=message)
    for name, value in headers.items():
        if value:
            sent[name] = value
        else:
            del sent[name]


async def wait_for(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.005)


@dataclass
class Site:
    """A host on a free port, which can be stopped and started again."""

    network: Network
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        listener = bind("127.0.0.1", self.port)
        ready = threading.Event()

        class ReadyServer(uvicorn.Server):
            async def startup(self, sockets: object = None) -> None:
                await super().startup(sockets=sockets)  # type: ignore[arg-type]
                ready.set()

        config = uvicorn.Config(
            self.network,
            lifespan="off",
            log_level=60,
            timeout_graceful_shutdown=0,
        )
        self._server = ReadyServer(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        assert ready.wait(TIMEOUT_S)

    @contextmanager
    def down(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()


def get(url: str, **options: Any) -> httpx.Response:
    """Waits for an answer as long as a busy machine may take."""
    return httpx.get(url, timeout=TIMEOUT_S, **options)


@contextmanager
def serving(app: ASGIApp) -> Iterator[Site]:
    # Kept while the host is down: nothing else gets its port.
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        site = Site(Network(app), place.getsockname()[1])
        site.start()
        try:
            yield site
        finally:
            site.stop()
