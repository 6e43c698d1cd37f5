"""One HTTP connection: uvicorn's, with limits on what a client may hold and for how long."""

import asyncio
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.daemon.admission import Admission, neighbourhood
from edge.daemon.errors import ApiError

# State of a connection that HTTP requests carry: it came when there was no room.
IS_SPARE = "is_spare"
# Of a request's line and headers.
HEAD_BYTES = 16 << 10
# socket(7): on, for no time.
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds that a client has.

    To send a request's head; between requests; to read some of what has been written, and all that
    was written at once; to leave after a refusal.
    """

    head_s: float = 10
    idle_s: float = 30
    write_s: float = 30
    flush_s: float = 300
    linger_s: float = 2


class Connection(H11Protocol):
    """Closed by `check` when its client is too slow, by `make_way` when others need its place."""

    def __init__(self, *, admission: Admission, limits: Limits, **given: Any) -> None:
        super().__init__(**given)
        self.neighbourhood = ""
        self._admission = admission
        self._limits = limits
        # Since when a request's head is awaited, the end isn't reached after a refusal.
        self._head_since: float | None = None
        self._ending_since: float | None = None
        # Since when what is written waits for being read, and since when nothing of it was.
        self._flush_since: float | None = None
        self._blocked_since: float | None = None
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.neighbourhood = neighbourhood(self.client[0] if self.client else "")
        self._head_since = time.monotonic()
        if not self._admission.enter(self):
            self.app_state = {**self.app_state, IS_SPARE: True}

    def connection_lost(self, exc: Exception | None) -> None:
        self._admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ending_since is not None:
            return
        super().data_received(data)
        self._follow()
        if not self._is_answering() and self._head_since is None:
            self._head_since = time.monotonic()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._head_since = None
        self._follow()
        if not self._is_answering() and self.conn.trailing_data[0]:
            self._head_since = time.monotonic()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader(time.monotonic())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._flush_since = self._blocked_since = None

    def make_way(self) -> None:
        """Close at once, end the request if there is one, and keep nothing for a client that doesn't read."""
        connected = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def check(self, now: float) -> None:
        """Close it if its client took longer than it may."""
        limits = self._limits
        is_closing = self.transport.is_closing()
        if is_closing and self._flush_since is None:
            self._await_reader(now)
        self._follow_reader(now)
        if (
            _is_over(self._ending_since, limits.linger_s, now)
            or _is_over(self._blocked_since, limits.write_s, now)
            or _is_over(self._flush_since, limits.flush_s, now)
        ):
            self.make_way()
        elif is_closing or self._ending_since is not None:
            return
        elif _is_over(self._head_since, limits.head_s, now):
            if self.conn.trailing_data[0]:
                text = f"The request took longer than {limits.head_s:g} s to arrive."
                self._refuse(ApiError(408, "request_timeout", text))
            else:
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What h11 can't read."""
        if len(self.conn.trailing_data[0]) > HEAD_BYTES:
            text = f"A request's address and headers may have {HEAD_BYTES} bytes."
            self._refuse(ApiError(431, "headers_too_large", text))
        else:
            self._refuse(ApiError(400, "invalid_http", "This is no HTTP request that can be read."))

    def _await_reader(self, now: float) -> None:
        self._flush_since = self._blocked_since = now
        self._unread_bytes = self.transport.get_write_buffer_size()

    def _follow_reader(self, now: float) -> None:
        """One that reads, however slowly, isn't blocked."""
        unread_bytes = self.transport.get_write_buffer_size()
        if self._blocked_since is not None and unread_bytes < self._unread_bytes:
            self._blocked_since = now
        self._unread_bytes = unread_bytes

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _follow(self) -> None:
        """Tell admission what the client does now."""
        if not self._is_answering():
            self._admission.waits(self)
            return
        self._head_since = None
        follow = self._admission.uploads if self.cycle.more_body else self._admission.is_answered
        follow(self)

    def _refuse(self, error: ApiError) -> None:
        """Answer what is no whole request, and close once the client has read it."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response = error.response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=error.status, headers=headers),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._ending_since = time.monotonic()
        # Closed at once, what the client still sends would be answered by a reset that hides this.
        self.transport.write_eof()


def _is_over(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds
