"""The chat page, and the list of models that it can use: in the browser, and here."""

import logging
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from mlc_edge.bundle import ModelInfo, read_lock
from mlc_edge.errors import BundleError, ConfigError
from web.host import HostConfig, create_app

logger = logging.getLogger(__name__)


class Page:
    """An ASGI app: the web host once there is one, else nothing to be found."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    def open(self, model: ModelInfo | None = None, bundle: Path | None = None) -> bool:
        """Serve the page, and what is loaded; False when this installation has no built page."""
        bundles = (bundle,) if bundle is not None and _runs_in_browsers(bundle) else ()
        daemon = describe(model) if model else None
        try:
            self._app = create_app(HostConfig(bundles=bundles, daemon=daemon))
        except ConfigError as error:
            logger.warning("only the API is served, without the chat page: %s", error)
            return False
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            raise HTTPException(404)
        await self._app(scope, receive, send)


def describe(model: ModelInfo) -> dict[str, Any]:
    """This daemon for the page: where its API is, relative to the page, and its model."""
    shown = {
        "id": model.id,
        "context_window_size": model.context_window_size,
        "quantization": model.quantization,
        "model_type": model.model_type,
    }
    return {"url": "v1/", "models": [shown]}


def _runs_in_browsers(bundle: Path) -> bool:
    try:
        return read_lock(bundle).runs_in_browsers
    except BundleError:
        return False
