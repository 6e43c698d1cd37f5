"""Response headers that isolate the page, and let other sites load bundles."""

import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
COMMON = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# Cross-origin isolation gives the page SharedArrayBuffer and precise timers.
PAGE = {
    **COMMON,
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
# The frame in which diagrams of models are drawn: it has no origin and no network.
DIAGRAM_PATH = re.compile(r"dist/diagram-[A-Z0-9]{8}\.html")
DIAGRAM = {
    **PAGE,
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; sandbox allow-scripts; frame-ancestors 'self'",
}
# Bundles hold no secrets and run nothing by themselves: a page of another site may load them.
BUNDLE = {
    **COMMON,
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "cross-origin",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "accept-ranges, content-range, etag",
}
PREFLIGHT = {
    "access-control-allow-methods": "GET, HEAD, OPTIONS",
    "access-control-allow-headers": "if-none-match, if-range, range",
    "access-control-max-age": "86400",
}


class SecurityHeaders:
    """Adds the headers to every response, errors included.

    `bundles` is a path prefix; pages of the origins `embedders` (or "*") may load what isn't below it, too.
    """

    def __init__(self, app: ASGIApp, *, bundles: str, embedders: Collection[str] = ()) -> None:
        self.app = app
        self.bundles = bundles
        self.embedders = embedders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(self.bundles):
            added = BUNDLE
        elif DIAGRAM_PATH.fullmatch(path.removeprefix("/")):
            added = DIAGRAM
        else:
            added = self._page(Headers(scope=scope))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(added)
                if self.embedders and added is not BUNDLE:
                    headers.add_vary_header("Origin")
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _page(self, request: Headers) -> dict[str, str]:
        origin = "*" if "*" in self.embedders else request.get("origin")
        if origin is None or origin not in self.embedders:
            return PAGE
        allowed = {"access-control-allow-origin": origin}
        return {**PAGE, **allowed, "cross-origin-resource-policy": "cross-origin"}
