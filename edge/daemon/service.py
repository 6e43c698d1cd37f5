"""The daemon's life: listen, load, serve, reload, drain."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import typer

from edge.daemon import logs
from edge.daemon.app import create_daemon_app
from edge.daemon.config import Source
from edge.daemon.model import ServedModel
from edge.daemon.page import Page
from edge.daemon.server import HttpServer
from edge.daemon.settings import Settings
from edge.daemon.systemd import Notifier, from_environment, keep_alive
from mlc_edge.errors import ConfigError
from web.server import address_url, bind, is_loopback

logger = logging.getLogger(__name__)
# While it loads, systemd is told every so often to wait longer.
LOADING_S = 10.0


def serve(source: Source) -> None:
    """Serve until a signal; raises MlcEdgeError when the daemon can't start."""
    logs.set_up("auto", "info", os.environ.get("JOURNAL_STREAM"))
    settings = Settings(source)
    config = settings.config
    logs.set_up(config.log_format, config.log_level, os.environ.get("JOURNAL_STREAM"))
    listener = bind(config.host, config.port)
    url = address_url(config.host, listener)
    if not is_loopback(config.host) and not settings.keys:
        logger.warning(
            "everyone who reaches %s can use this model: set --api-key-file, or keep to loopback",
            config.host,
        )

    def announce() -> None:
        logger.info("listening on %s", url)
        if sys.stdout.isatty():
            typer.echo(_greeting(url, bool(settings.keys)))

    async def run() -> None:
        await Service(settings, from_environment(os.environ)).run(listener, announce)

    asyncio.run(run())


def _greeting(url: str, with_key: bool) -> str:
    key = "  -H 'Authorization: Bearer KEY' \\\n" if with_key else ""
    question = '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'
    return (
        f"\nListening on {url} (Ctrl-C ends it). When it is ready, ask:\n\n"
        f"curl {url}v1/chat/completions \\\n{key}"
        f"  -H 'Content-Type: application/json' -d '{question}'\n"
    )


class Service:
    """One daemon on one listener, until SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, notifier: Notifier) -> None:
        self._settings = settings
        self._notifier = notifier
        self._model = ServedModel()
        self._page = Page()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loaded = asyncio.Event()
        self._status = "loading"

    async def run(self, listener: socket.socket, on_listening: Callable[[], None]) -> None:
        """Serve; raises what loading the model raised."""
        if self._settings.config.page:
            self._page.open()
        app = create_daemon_app(self._settings, self._model, self._page)
        server = HttpServer(app, on_listening)
        self._catch_signals()
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        tasks = [
            asyncio.ensure_future(work)
            for work in (self._load(), self._keep_alive(), self._watch_engine())
        ]
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await _first_failure_or(stop, [serving, *tasks])
        finally:
            await self._drain()
            server.should_exit = True
            await serving
            for task in (*tasks, stop):
                task.cancel()
            await asyncio.gather(*tasks, stop, return_exceptions=True)
            logger.info("stopped")

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, signal.Signals(number).name)

    def _ask_to_stop(self, name: str) -> None:
        if self._stop.is_set():
            logger.warning("%s again: running requests are cancelled", name)
            self._hurry.set()
        else:
            logger.info("%s: shutting down", name)
            self._stop.set()

    def _reload(self) -> None:
        was_ready = self._loaded.is_set()
        if was_ready:
            self._notifier.reloading()
        try:
            self._settings.reload()
            logs.set_level(self._settings.config.log_level)
        except ConfigError as error:
            logger.error("configuration not reloaded, the old one stays: %s", error)
        if was_ready:
            self._notifier.ready(self._status)

    async def _load(self) -> None:
        loaded = await self._model.load(self._settings.config, self._show_progress)
        model, stats = loaded.engine.model, loaded.engine.stats()
        if self._settings.config.page:
            # Where nothing can be noted, the bundle is read and hashed once more.
            await asyncio.to_thread(self._page.open, model, loaded.bundle)
        self._status = f"serving {model.id}"
        logger.info(
            "ready: %s (%s, %s), %d tokens of cache, %d threads for prompts, %d for answers",
            model.id,
            model.quantization,
            stats.target,
            stats.kv_tokens_total,
            stats.threads.prefill,
            stats.threads.decode,
        )
        self._notifier.ready(self._status)
        self._loaded.set()

    def _show_progress(self, text: str, share: float | None) -> None:
        status = text if share is None else f"{text}: {share:.0%}"
        if status == self._status:
            return
        if share is None:
            logger.info("%s", text)
        self._status = status
        self._notifier.loading(status, 3 * LOADING_S)

    async def _keep_alive(self) -> None:
        while not self._loaded.is_set():
            self._notifier.loading(self._status, 3 * LOADING_S)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._loaded.wait(), LOADING_S)
        await keep_alive(self._notifier, self._model)

    async def _watch_engine(self) -> None:
        """Raise what ended the engine: a daemon that answers nothing is to be started anew."""
        await self._loaded.wait()
        await self._model.ended()

    async def _drain(self) -> None:
        seconds = self._settings.config.drain_timeout
        self._notifier.stopping("draining")
        draining = asyncio.ensure_future(self._model.close(seconds))
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not draining.done():
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
            await self._model.close(0)
        else:
            draining.result()


async def _first_failure_or(
    stop: "asyncio.Future[Any]", tasks: list["asyncio.Future[Any]"]
) -> None:
    """Wait for `stop`, unless one of the tasks fails: then raise what it raised."""
    pending = {stop, *tasks}
    while not stop.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
