"""A network of given rate and latency between a browser and a server on this machine.

Chromium's own emulation leaves out what service workers and workers fetch; here everything shares one link.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 1460


class _Link:
    """One direction: chunks of all connections leave in turn and arrive `latency_s` later."""

    def __init__(self, bytes_per_s: float, latency_s: float) -> None:
        self._bytes_per_s, self._latency_s = bytes_per_s, latency_s
        self._free_at = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(CHUNK_BYTES):
            self._free_at = max(self._free_at, loop.time()) + len(data) / self._bytes_per_s
            loop.call_at(self._free_at + self._latency_s, writer.write, data)
            await asyncio.sleep(self._free_at - loop.time())
        loop.call_at(max(self._free_at, loop.time()) + self._latency_s, writer.close)


@contextmanager
def slow_link(port: int, *, mbit_per_s: float, round_trip_ms: float) -> Iterator[int]:
    """A port of this machine that leads to `port`; the rate holds for each direction."""
    loop = asyncio.new_event_loop()
    rate, latency_s = mbit_per_s * 1e6 / 8, round_trip_ms / 2000
    up, down = _Link(rate, latency_s), _Link(rate, latency_s)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection takes a round trip to open.
        await asyncio.sleep(2 * latency_s)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(up.carry(reader, server_writer), down.carry(server_reader, writer))

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        starting = asyncio.start_server(connect, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
