"""Logs on stderr: plain, for journald with its priorities, or as JSON."""

import logging
import os
import sys
from typing import Any

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
DEBUG_PRIORITY = 7
TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


def set_up(log_format: str, level: str, journal_stream: str | None) -> None:
    """Send all logs of the process to stderr; `journal_stream` is systemd's JOURNAL_STREAM."""
    if log_format == "auto":
        log_format = "journal" if _is_stream(sys.stderr.fileno(), journal_stream) else "text"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(handlers=[handler], force=True, level=logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Least severe message of our own; libraries only warn."""
    for name in ("edge", "mlc_edge", "web"):
        logging.getLogger(name).setLevel(level.upper())


def _formatter(log_format: str) -> logging.Formatter:
    if log_format == "json":
        return _json_formatter()
    return _Journal("%(message)s") if log_format == "journal" else _Text(TEXT_FORMAT)


class _Text(logging.Formatter):
    """One line: the message, then the fields as name=value."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        shown = (f"{name}={value}" for name, value in fields.items() if value is not None)
        return " ".join((super().formatMessage(record), *shown))


class _Journal(_Text):
    """With sd-daemon's priority before each line, those of traces, too."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(
            (number for level, number in PRIORITIES if record.levelno >= level), DEBUG_PRIORITY
        )
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    class Flat(JsonFormatter):
        """The fields beside the message, not in an object of their own."""

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            fields: dict[str, Any] = log_data.pop("fields", {})
            return {**log_data, **fields}

    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return Flat("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names)


def _is_stream(descriptor: int, journal_stream: str | None) -> bool:
    if not journal_stream:
        return False
    stat = os.fstat(descriptor)
    return journal_stream == f"{stat.st_dev}:{stat.st_ino}"
