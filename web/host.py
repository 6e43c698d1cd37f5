"""The web application: the page, its workers, and bundles, under one set of headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlc_edge.errors import ConfigError
from web.bundles import index_of, open_bundles
from web.content import (
    IMMUTABLE,
    REVALIDATE,
    ContentCache,
    ServedFile,
    resolve_inside,
    serve,
)
from web.security import PREFLIGHT, SecurityHeaders

STATIC = Path(__file__).parent / "static"
BUNDLES = "/bundles/"
# Sources from which the served page is made.
NOT_SERVED = frozenset({"page.html", "benchmark-page.html", "chat.css"})
HASHED_NAME = re.compile(r"dist/.*-[A-Z0-9]{8}\.(js|css|html|wasm|woff2)(\.map)?")


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """What to serve: bundle folders, and the folder of the built page.

    `daemon` tells the page, in index.json, of an API on the same host that it can use. Pages of the
    origins `embedders` (or "*") may load its scripts; bundles may be loaded by any.
    """

    bundles: tuple[Path, ...] = ()
    static: Path = STATIC
    daemon: Mapping[str, Any] | None = None
    embedders: tuple[str, ...] = ()


def require_page(static: Path) -> None:
    """Raise ConfigError unless `static` holds a built page."""
    if not (static / "index.html").is_file():
        raise ConfigError(
            f"{static} holds no built page (index.html): run `make web-assets` there, "
            "or name another folder with --static."
        )


class _Host:
    def __init__(self, config: HostConfig) -> None:
        require_page(config.static)
        self.static = config.static
        self.daemon = config.daemon
        self.bundles = open_bundles(config.bundles)
        self.cache = ContentCache()

    async def page(self, request: Request) -> Response:
        path = request.path_params["path"] or "index.html"
        resolved = None
        if path not in NOT_SERVED:
            resolved = await run_in_threadpool(resolve_inside, self.static, path)
        if resolved is None:
            raise HTTPException(404)
        cache_control = IMMUTABLE if HASHED_NAME.fullmatch(path) else REVALIDATE
        return await serve(request, ServedFile(resolved, path, cache_control), self.cache)

    async def bundle_file(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=PREFLIGHT)
        bundle = self.bundles.get(request.path_params["bundle"])
        file = None
        if bundle is not None:
            path, sha256 = request.path_params["path"], request.query_params.get("sha256")
            file = await run_in_threadpool(bundle.find, path, sha256)
        if file is None:
            raise HTTPException(404, "No bundle here has this file with this hash.")
        return await serve(request, file, self.cache)

    async def index(self, request: Request) -> Response:
        # A bundle that was rebuilt meanwhile is read and hashed.
        content = await run_in_threadpool(index_of, self.bundles.values())
        if self.daemon is not None:
            content["daemon"] = self.daemon
        return JSONResponse(content, headers={"cache-control": REVALIDATE})

    async def health(self, request: Request) -> Response:
        state = {"status": "ok", "bundles": list(self.bundles)}
        return JSONResponse(state, headers={"cache-control": "no-store"})


def create_app(config: HostConfig) -> Starlette:
    """The application. Raises ConfigError or BundleError when something can't be served."""
    host = _Host(config)
    return Starlette(
        routes=[
            Route("/health", host.health),
            Route(f"{BUNDLES}index.json", host.index),
            Route(
                BUNDLES + "{bundle}/{path:path}",
                host.bundle_file,
                methods=["GET", "HEAD", "OPTIONS"],
            ),
            Route("/{path:path}", host.page),
        ],
        middleware=[Middleware(SecurityHeaders, bundles=BUNDLES, embedders=config.embedders)],
    )
