"""From configuration to a running daemon."""

import asyncio
import json
import logging
import os
import sys
from typing import Any

import typer

from edge.daemon import logs
from edge.daemon.config import OPTIONS, Source
from edge.daemon.settings import Settings

logger = logging.getLogger(__name__)


def check(source: Source) -> str:
    """The configuration in force, as TOML; raises ConfigError."""
    config = Settings(source).config
    return "".join(f"{_toml_line(name, getattr(config, name))}\n" for name in OPTIONS)


def start(source: Source) -> None:
    """Serve until a signal; raises MlcEdgeError when the daemon can't start."""
    from edge.daemon.notify import from_environment
    from edge.daemon.service import Service
    from web.server import address_url, bind, is_loopback

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

    async def serve() -> None:
        await Service(settings, from_environment(os.environ)).run(listener, announce)

    asyncio.run(serve())


def _greeting(url: str, with_key: bool) -> str:
    key = "  -H 'Authorization: Bearer KEY' \\\n" if with_key else ""
    question = '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'
    return (
        f"\nListening on {url} (Ctrl-C ends it). When it is ready, ask:\n\n"
        f"curl {url}v1/chat/completions \\\n{key}"
        f"  -H 'Content-Type: application/json' -d '{question}'\n"
    )


def _toml_line(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} = {OPTIONS[name].default_text or 'none'}"
    if isinstance(value, tuple):
        return f"{name} = {json.dumps(list(value))}"
    if isinstance(value, bool | int | float):
        return f"{name} = {json.dumps(value)}"
    return f"{name} = {json.dumps(str(value))}"
