"""Runs the host on a socket until it is told to stop."""

import errno
import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from mlc_edge.errors import ConfigError

# A browser tab keeps its connection open; it isn't waited for longer than this.
SHUTDOWN_TIMEOUT_S = 2


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError when the port is taken or the name is unknown."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, OverflowError) as error:
        raise ConfigError(
            f"can't listen on {host}:{port} ({error}): pass --host with an address of this machine."
        ) from error
    try:
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise ConfigError(f"can't listen on {host}:{port}: {_remedy(error)}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_url(host: str, listener: socket.socket) -> str:
    """The URL to open for a listener that was asked for as `host`."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/"


def run(app: ASGIApp, listener: socket.socket, *, on_ready: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM; calls `on_ready` once requests are answered."""
    config = uvicorn.Config(
        app,
        access_log=False,
        lifespan="off",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        ws="none",
    )
    server = _AnnouncingServer(config, on_ready)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        # uvicorn has shut down by now and raises the signal again.
        return


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use. Stop what uses it, or pass another one with --port."
    if error.errno == errno.EACCES:
        return "this port needs more rights. Pass one above 1023 with --port."
    return f"{error.strerror}. Pass --host with an address of this machine."
