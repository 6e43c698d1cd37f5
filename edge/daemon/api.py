"""OpenAI's API over the engine."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.daemon.access import CLIENT_GONE, Record
from edge.daemon.body import read_params
from edge.daemon.errors import ApiError, from_engine
from edge.daemon.events import ClientGone, EventStream, unless_gone
from edge.daemon.model import ServedModel
from edge.daemon.settings import Settings
from mlc_edge.engine import AsyncMLCEngine
from mlc_edge.errors import EngineError

Create = Callable[..., Awaitable[Any]]


class Api:
    """The routes under /v1/."""

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self._model = model
        self._settings = settings
        self._created = int(time.time())

    def routes(self) -> list[Route]:
        return [
            Route("/chat/completions", self._chat, methods=["POST"]),
            Route("/completions", self._completions, methods=["POST"]),
            Route("/embeddings", self._embeddings, methods=["POST"]),
            Route("/models", self._models),
            Route("/models/{id:path}", self._one_model),
        ]

    async def _chat(self, request: Request) -> Response:
        return await self._create(request, lambda engine: engine.chat.completions.create)

    async def _completions(self, request: Request) -> Response:
        return await self._create(request, lambda engine: engine.completions.create)

    async def _create(
        self, request: Request, choose: Callable[[AsyncMLCEngine], Create]
    ) -> Response:
        record: Record = request.state.record
        try:
            create = choose(self._model.engine())
            params = await read_params(request, self._settings.config.max_body)
            _refuse_self(params)
            hide_usage = _ask_for_usage(params)
            answer = await unless_gone(create(**params), request.receive)
        except (ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        except EngineError as error:
            raise from_engine(error) from error
        if params.get("stream"):
            return EventStream(answer, record, hide_usage=hide_usage)
        content = answer.to_dict()
        record.usage = content["usage"]
        return JSONResponse(content)

    async def _embeddings(self, request: Request) -> Response:
        self._model.engine()
        await read_params(request, self._settings.config.max_body)
        text = "Embeddings are not supported by this model: it generates text. Load another one."
        raise ApiError(400, "unsupported", text, param="model")

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._entry()]})

    async def _one_model(self, request: Request) -> Response:
        entry, wanted = self._entry(), request.path_params["id"]
        if wanted != entry["id"]:
            text = f"There is no model {wanted!r:.80} here, only {entry['id']!r}."
            raise ApiError(404, "model_not_found", text, param="model")
        return JSONResponse(entry)

    def _entry(self) -> dict[str, Any]:
        model_id = self._model.engine().model.id
        return {
            "id": model_id,
            "object": "model",
            "created": self._created,
            "owned_by": "mlc-edge",
        }


def _refuse_self(params: dict[str, Any]) -> None:
    """The one name that can't be passed on to a method, which refuses all other unknown ones."""
    if "self" in params:
        text = "self is not supported. Leave it out."
        raise ApiError(400, "invalid_request", text, param="self")


def _ask_for_usage(params: dict[str, Any]) -> bool:
    """Have a stream end with its usage, for log and metrics; whether the client must not see it."""
    options = params.get("stream_options")
    if params.get("stream") is not True or not (options is None or isinstance(options, dict)):
        return False
    asked = (options or {}).get("include_usage")
    if asked not in (None, False):
        return False
    params["stream_options"] = {**(options or {}), "include_usage": True}
    return True
