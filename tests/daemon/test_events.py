"""Streams that a real engine here is too fast for: silence, and failures in the middle."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from edge.daemon.access import CLIENT_GONE, Record
from edge.daemon.events import KEEP_ALIVE, EventStream
from mlc_edge.errors import EngineError


@dataclass(frozen=True)
class Chunk:
    text: str

    def to_dict(self) -> dict[str, Any]:
        return {"choices": [{"delta": {"content": self.text}}]}


@dataclass
class Client:
    """An ASGI server's side of one request."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self.body.count(KEEP_ALIVE) >= 2:
            self.enough.set()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    def read(self, chunks: AsyncIterator[Chunk], record: Record | None = None) -> Any:
        stream = EventStream(chunks, record or Record("id"), hide_usage=False, silence_s=0.01)
        return stream({"type": "http"}, self.receive, self.send)


def test_silence_is_broken_before_and_within_the_answer():
    async def check() -> None:
        client = Client()

        async def chunks() -> AsyncIterator[Chunk]:
            await client.enough.wait()
            yield Chunk("first")
            yield Chunk("second")

        await client.read(chunks())
        events = [event + b"\n\n" for event in client.body.split(b"\n\n")[:-1]]
        assert client.status == 200
        assert events[:2] == [KEEP_ALIVE, KEEP_ALIVE]
        assert json.loads(events[-3].removeprefix(b"data: ")) == Chunk("first").to_dict()
        assert events[-1] == b"data: [DONE]\n\n"

    asyncio.run(check())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineError("out_of_memory", "No room."), 503, "out_of_memory"),
        (EngineError("internal", "secret"), 500, "internal"),
        (RuntimeError("secret"), 500, "internal"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_failures(error: Exception, status: int, code: str, begun: bool):
    async def chunks() -> AsyncIterator[Chunk]:
        if begun:
            yield Chunk("first")
        raise error

    async def check() -> None:
        client = Client()
        await client.read(chunks())
        *_, last = client.body.strip().split(b"\n\n")
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == code
        assert client.status == (200 if begun else status)
        assert not client.sent[-1].get("more_body")
        assert b"secret" not in client.body

    asyncio.run(check())


def test_chunks_are_closed_when_the_client_leaves():
    async def check() -> None:
        client, record, closed = Client(), Record("id"), asyncio.Event()

        async def chunks() -> AsyncIterator[Chunk]:
            try:
                yield Chunk("first")
                client.gone.set()
                await asyncio.Event().wait()
            finally:
                closed.set()

        await client.read(chunks(), record)
        assert closed.is_set()
        assert record.status == CLIENT_GONE

    asyncio.run(check())
