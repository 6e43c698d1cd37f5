"""ASGI layers that let only wanted requests through."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.daemon.connection import HEAD_BYTES, IS_SPARE
from edge.daemon.errors import ApiError, unavailable
from edge.daemon.settings import Settings

API = "/v1/"
METRICS = "/metrics"
ALSO_GUARDED = (METRICS, "/tokenize", "/detokenize", "/tokenizer_info")
# What tells of the daemon's health answers when nothing else does.
PROBES = ("/health", "/ready", METRICS)
# As many as other servers take; browsers send a tenth.
MAX_HEADERS = 100
SEEN_BY_PAGES = ("x-request-id", "retry-after")


def is_guarded(scope: Scope) -> bool:
    """Whether keys and origins matter here: not for liveness, the page and bundles."""
    path: str = scope["path"]
    return path.startswith(API) or path in ALSO_GUARDED


class RoomGuard:
    """Refuses heads of requests that are too large, and work when all connections are in use."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._refusal(scope)
        is_spare = scope["state"].get(IS_SPARE, False)

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        app = error.response() if error else self._app
        await app(scope, receive, send_last if error or is_spare else send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > HEAD_BYTES or len(scope["headers"]) > MAX_HEADERS:
            text = f"A request's address and headers may have {HEAD_BYTES} bytes and {MAX_HEADERS} lines."
            return ApiError(431, "headers_too_large", text)
        if scope["state"].get(IS_SPARE) and scope["path"] not in PROBES:
            return unavailable(
                "too_many_connections", "All connections are in use. Ask again later."
            )
        return None


class HostGuard:
    """Refuses foreign names for this machine, and pages of other sites."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        error = self._refusal(scope, headers.get("host"), headers.get("origin"))
        await (error.response() if error else self._app)(scope, receive, send)

    def _refusal(self, scope: Scope, host: str | None, origin: str | None) -> ApiError | None:
        # Browsers name the host, which no page can prevent; programs that speak HTTP/1.0 needn't.
        if host is not None and not self._settings.allows_host(host):
            text = f"This daemon doesn't answer as {host!r:.80}: name it with --allow-host."
            return ApiError(403, "host_not_allowed", text)
        if is_guarded(scope) and not self._settings.allows_origin(origin, host or ""):
            text = f"Pages of {origin!r:.80} may not use this API: allow them with --cors-origin."
            return ApiError(403, "origin_not_allowed", text)
        return None


class Cors:
    """Starlette's CORS for the API, by the origins in force."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._origins: tuple[str, ...] = ()
        self._cors = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._origins != self._settings.config.cors_origin:
            self._origins = self._settings.config.cors_origin
            self._cors = self._layer() if self._origins else self._app
        app = self._cors if scope["path"].startswith(API) else self._app
        await app(scope, receive, send)

    def _layer(self) -> ASGIApp:
        return CORSMiddleware(
            self._app,
            allow_origins=self._origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=SEEN_BY_PAGES,
        )


class KeyGuard:
    """Asks for an API key where there are any."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("authorization")
        if not is_guarded(scope) or self._settings.keys.accepts(given):
            await self._app(scope, receive, send)
            return
        problem = "This API key is not known" if given else "An API key is needed"
        error = ApiError(
            401,
            "invalid_api_key",
            f"{problem}: send the header `Authorization: Bearer KEY`.",
            headers={"www-authenticate": "Bearer"},
        )
        await error.response()(scope, receive, send)
