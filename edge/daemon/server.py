"""uvicorn on our listener; signals are the service's, not its own."""

import contextlib
import socket
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from edge.daemon.admission import ACCEPTED_AT_ONCE, Admission, limit_by_files
from edge.daemon.connection import HEAD_BYTES, Connection, Limits

# After the drain: what is already answered may still be sent for this long.
FLUSH_TIMEOUT_S = 5
# The kernel's queue of clients that connect.
BACKLOG = 512
# What the kernel holds for a client that doesn't read, beyond what is on its way.
UNSENT_BYTES = 128 << 10
# After that the kernel forgets a client that takes nothing, closed connections included: tcp(7).
UNACKNOWLEDGED_MS = 60_000
TICKS_A_CHECK = 10


class HttpServer(uvicorn.Server):
    """Calls `on_listening` once connections are accepted; ends when `should_exit` is set."""

    def __init__(
        self, app: ASGIApp, on_listening: Callable[[], None], limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        self._admission = Admission(limit_by_files(0))
        protocol = partial(Connection, admission=self._admission, limits=limits)
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                backlog=ACCEPTED_AT_ONCE,
                h11_max_incomplete_event_size=HEAD_BYTES,
                http=cast(Any, protocol),
                lifespan="off",
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=FLUSH_TIMEOUT_S,
                timeout_keep_alive=cast(int, limits.idle_s),
                ws="none",
            )
        )
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            # uvicorn's backlog is both this queue's length and how many are accepted at a time.
            listener.listen(BACKLOG)
            # Connections inherit these.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        self._on_listening()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's, ten times a second: a request that was not finished in time is."""
        if counter % TICKS_A_CHECK == 0:
            connections = list(self.server_state.connections)
            self._admission.limit = limit_by_files(len(connections))
            for connection in connections:
                cast(Connection, connection).check(time.monotonic())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave them alone: a drain comes before the end."""
        yield
