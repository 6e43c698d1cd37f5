"""uvicorn on our listener; signals are the service's, not its own."""

import contextlib
import socket
from collections.abc import Callable, Generator

import uvicorn
from starlette.types import ASGIApp

# After the drain: what is already answered may still be sent for this long.
FLUSH_TIMEOUT_S = 5


class HttpServer(uvicorn.Server):
    """Calls `on_listening` once connections are accepted; ends when `should_exit` is set."""

    def __init__(self, app: ASGIApp, on_listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                lifespan="off",
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=FLUSH_TIMEOUT_S,
                ws="none",
            )
        )
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave them alone: a drain comes before the end."""
        yield
