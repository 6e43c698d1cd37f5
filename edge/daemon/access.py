"""One line and one count for each request, and an id that client and log share."""

import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.daemon.errors import internal
from edge.daemon.metrics import Metrics

logger = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"
PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUIET = ("/health", "/ready", "/metrics")
ROUTES = (
    *QUIET,
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
)
CLIENT_GONE = 499
# What clients choose, in a line of the log.
SHOWN_METHOD, SHOWN_PATH = 20, 200
SAFE = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


@dataclass
class Record:
    """What is known of a request by its end; durations in seconds, tokens as the engine counts."""

    id: str
    started: float = field(default_factory=time.monotonic)
    status: int = CLIENT_GONE
    usage: dict[str, Any] | None = None

    def fields(self) -> dict[str, Any]:
        """For the log."""
        seconds = round(time.monotonic() - self.started, 4)
        shown = {"request_id": self.id, "status": self.status, "seconds": seconds}
        if self.usage:
            extra = self.usage.get("extra") or {}
            shown |= {
                "prompt_tokens": self.usage["prompt_tokens"],
                "cached_tokens": extra.get("cached_tokens"),
                "completion_tokens": self.usage["completion_tokens"],
                "first_token_s": _rounded(extra.get("time_to_first_token_s")),
            }
        return shown


class Access:
    """The outermost layer: names, times, counts and logs requests; failures end here as 500."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        record = Record(given if PLAIN_ID.fullmatch(given) else uuid.uuid4().hex)
        scope["state"] = {**scope.get("state", {}), "record": record}
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                record.status = message["status"]
                _complete(MutableHeaders(scope=message), record)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception:
            record.status = 500
            logger.exception("request %s failed", record.id)
            if started:
                raise
            await internal().response()(scope, receive, send_named)
        finally:
            self._finish(scope, record)

    def _finish(self, scope: Scope, record: Record) -> None:
        route = _route(scope["path"])
        self._metrics.count(route, record.status, record.usage)
        level = logging.DEBUG if route in QUIET else logging.INFO
        method = scope["method"][:SHOWN_METHOD]
        path = scope.get("raw_path", b"")[:SHOWN_PATH].decode("ascii", "backslashreplace")
        fields = record.fields() | {"client": (scope.get("client") or (None,))[0]}
        logger.log(level, "%s %s", method, path, extra={"fields": fields})


def _complete(headers: MutableHeaders, record: Record) -> None:
    headers[REQUEST_ID] = record.id
    for name, value in SAFE.items():
        headers.setdefault(name, value)


def _route(path: str) -> str:
    """A label out of few, whatever clients ask for."""
    if path in ROUTES:
        return path
    if path.startswith("/v1/models/"):
        return "/v1/models/{id}"
    if path.startswith("/v1/requests/"):
        return "/v1/requests/{id}/cancel"
    if path.startswith("/v1/"):
        return "/v1/*"
    return "/bundles/*" if path.startswith("/bundles/") else "/*"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
