"""OpenAI's API over the engine, and what people expect beside it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.daemon.access import CLIENT_GONE, Record
from edge.daemon.admission import neighbourhood
from edge.daemon.body import read_params
from edge.daemon.errors import ApiError, from_engine
from edge.daemon.events import ClientGone, EventStream, unless_gone
from edge.daemon.model import ServedModel
from edge.daemon.settings import Settings
from mlc_edge.engine import AsyncMLCEngine
from mlc_edge.engine.endpoints import Answer, Endpoint
from mlc_edge.errors import EngineError

Work = Callable[[AsyncMLCEngine, dict[str, Any]], Awaitable[dict[str, Any]]]


class Api:
    """The routes under /v1/, and those of tokenizing."""

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self._model = model
        self._settings = settings
        self._created = int(time.time())

    def routes(self) -> list[Route]:
        """Below /v1."""
        return [
            Route("/chat/completions", self._chat, methods=["POST"]),
            Route("/completions", self._completions, methods=["POST"]),
            Route("/embeddings", self._embeddings, methods=["POST"]),
            Route("/models", self._models),
            Route("/models/{id:path}", self._one_model),
            Route("/requests/{id}/cancel", self._cancel, methods=["POST"]),
        ]

    def text_routes(self) -> list[Route]:
        """Below /, where vLLM has them."""
        return [
            Route("/tokenize", self._tokenize, methods=["POST"]),
            Route("/detokenize", self._detokenize, methods=["POST"]),
            Route("/tokenizer_info", self._tokenizer_info),
        ]

    async def _chat(self, request: Request) -> Response:
        return await self._create(request, lambda engine: engine.chat.completions)

    async def _completions(self, request: Request) -> Response:
        return await self._create(request, lambda engine: engine.completions)

    async def _create(
        self, request: Request, choose: Callable[[AsyncMLCEngine], Endpoint]
    ) -> Response:
        record: Record = request.state.record
        try:
            endpoint = choose(self._model.engine())
            params = await read_params(request, self._settings.config.max_body)
            hide_usage = _ask_for_usage(params)
            asking = endpoint.answer(params, client=self._client(request))
            answer: Any = await unless_gone(asking, request.receive)
        except (ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        except EngineError as error:
            raise from_engine(error) from error
        if params.get("stream"):
            return EventStream(answer, record, hide_usage=hide_usage)
        # Log probabilities of many choices are megabytes: the event loop goes on meanwhile.
        response, record.usage = await asyncio.to_thread(_encode, answer)
        return response

    async def _cancel(self, request: Request) -> Response:
        name = request.path_params["id"]
        if not self._model.engine().abort(name):
            text = f"No request {name!r:.80} is being answered: its id is that of its answer."
            raise ApiError(404, "request_not_found", text, param="id")
        return JSONResponse({"id": name, "object": "request", "cancelled": True})

    async def _tokenize(self, request: Request) -> Response:
        return await self._with_engine(request, _tokenize)

    async def _detokenize(self, request: Request) -> Response:
        return await self._with_engine(request, _detokenize)

    async def _tokenizer_info(self, request: Request) -> Response:
        return JSONResponse(self._model.engine().tokenizer_info)

    async def _with_engine(self, request: Request, work: Work) -> Response:
        try:
            params = await read_params(request, self._settings.config.max_body)
            working = work(self._model.engine(), params)
            return JSONResponse(await unless_gone(working, request.receive))
        except (ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        except EngineError as error:
            raise from_engine(error) from error

    def _client(self, request: Request) -> str | bytes:
        """Who asks: the bearer of a key, where keys are needed; else who has the address.

        Of IPv6 that is whoever has the network of 64 bits, as for connections.
        """
        key = self._settings.keys.digest_of(request.headers.get("authorization"))
        return key or neighbourhood(request.client.host if request.client else "")

    async def _embeddings(self, request: Request) -> Response:
        self._model.engine()
        await read_params(request, self._settings.config.max_body)
        text = "Embeddings are not supported by this model: it generates text. Load another one."
        raise ApiError(400, "unsupported", text, param="model")

    async def _models(self, request: Request) -> Response:
        names = self._model.engine().names
        return JSONResponse({"object": "list", "data": [self._entry(name) for name in names]})

    async def _one_model(self, request: Request) -> Response:
        names, wanted = self._model.engine().names, request.path_params["id"]
        if wanted not in names:
            text = f"There is no model {wanted!r:.80} here, only {', '.join(names)}."
            raise ApiError(404, "model_not_found", text, param="model")
        return JSONResponse(self._entry(wanted))

    def _entry(self, name: str) -> dict[str, Any]:
        engine = self._model.engine()
        model = engine.model
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "mlc-edge",
            "root": model.id,
            "max_model_len": model.context_window_size,
            # What the model's files name; the rest is OpenAI's.
            "sampling": dict(engine.sampling),
        }


def _encode(answer: Answer) -> tuple[Response, dict[str, Any]]:
    """The answer as JSON, and its usage."""
    content = answer.to_dict()
    return JSONResponse(content), content["usage"]


async def _tokenize(engine: AsyncMLCEngine, params: dict[str, Any]) -> dict[str, Any]:
    """The tokens of `prompt`, or of the prompt that `messages` make; fields and defaults are vLLM's."""
    is_chat = "messages" in params
    special = _flag(params, "add_special_tokens", default=not is_chat)
    if not _flag(params, "add_generation_prompt", default=True):
        text = "add_generation_prompt can only be true here, as in completions."
        raise ApiError(400, "unsupported", text, param="add_generation_prompt")
    if is_chat:
        tokens = await engine.tokenize_chat(params, add_special_tokens=special)
    else:
        tokens = await engine.tokenize(_text(params, "prompt"), add_special_tokens=special)
    window = engine.model.context_window_size
    return {"tokens": tokens, "count": len(tokens), "max_model_len": window}


async def _detokenize(engine: AsyncMLCEngine, params: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": await engine.detokenize(_token_ids(params.get("tokens"), engine.vocab_size))}


def _flag(params: dict[str, Any], name: str, *, default: bool) -> bool:
    """Taken out of `params`."""
    value = params.pop(name, None)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    raise ApiError(400, "invalid_request", f"{name} must be true or false.", param=name)


def _text(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str):
        text = f"{name} must be a string. Give it, or messages."
        raise ApiError(400, "invalid_request", text, param=name)
    return value


def _token_ids(value: object, vocab_size: int) -> list[int]:
    def is_token(id: object) -> bool:
        return isinstance(id, int) and not isinstance(id, bool) and 0 <= id < vocab_size

    if not isinstance(value, list) or not all(map(is_token, value)):
        text = f"tokens must be a list of token ids. Those of this model are 0 to {vocab_size - 1}."
        raise ApiError(400, "invalid_request", text, param="tokens")
    return value


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
