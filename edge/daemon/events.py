"""Answers as they are made: server-sent events, ended when the client leaves."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge.daemon.access import CLIENT_GONE, Record
from edge.daemon.errors import ApiError, from_engine, internal
from mlc_edge.errors import EngineError

logger = logging.getLogger(__name__)
T = TypeVar("T")
# Proxies and clients drop silent connections; a long prompt on a small board takes its time.
SILENCE_S = 10.0
KEEP_ALIVE = b": still working\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """The result of `work`, which is cancelled when the client disconnects (ClientGone)."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnection(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await _end(task, gone)


class EventStream(Response):
    """OpenAI's stream of chunks.

    An error before the first chunk is an answer of its own, with its own status; a later one is
    the stream's last event. `hide_usage`: the client didn't ask for the usage that we record.
    """

    def __init__(
        self,
        chunks: AsyncIterator[Any],
        record: Record,
        *,
        hide_usage: bool,
        silence_s: float = SILENCE_S,
    ) -> None:
        super().__init__(headers=HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._chunks = chunks
        self._record = record
        self._hide_usage = hide_usage
        self._silence_s = silence_s
        self._last_sent: float | None = None
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(scope, receive, send))
        gone = asyncio.ensure_future(_disconnection(receive))
        try:
            while not (pump.done() or gone.done()):
                await asyncio.wait(
                    (pump, gone), timeout=self._silence_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not (pump.done() or gone.done()):
                    await self._break_silence(send)
            if pump.done():
                pump.result()
            else:
                self._record.status = CLIENT_GONE
        finally:
            await _end(pump, gone)
            await _close(self._chunks)

    async def _pump(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                event = self._event(chunk.to_dict())
                if event is not None:
                    await self._write(send, event)
            await self._write(send, DONE)
        except EngineError as error:
            await self._fail(from_engine(error), scope, receive, send)
        except Exception as error:
            logger.exception("request %s failed", self._record.id, exc_info=error)
            await self._fail(internal(), scope, receive, send)
        else:
            await self._finish(send)

    async def _fail(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        if self._last_sent is None:
            await error.response()(scope, receive, send)
            return
        await self._write(send, _encode(error.body()))
        await self._finish(send)

    def _event(self, chunk: dict[str, Any]) -> bytes | None:
        usage = chunk.get("usage")
        if usage:
            self._record.usage = usage
        if self._hide_usage:
            chunk.pop("usage", None)
            if usage and not chunk["choices"]:
                return None
        return _encode(chunk)

    async def _write(self, send: Send, event: bytes) -> None:
        begins = self._last_sent is None
        self._last_sent = time.monotonic()
        async with self._sending:
            if begins:
                headers = self.raw_headers
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": event, "more_body": True})

    async def _break_silence(self, send: Send) -> None:
        if self._last_sent is None or time.monotonic() - self._last_sent >= self._silence_s:
            await self._write(send, KEEP_ALIVE)

    async def _finish(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _encode(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _close(chunks: AsyncIterator[Any]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
