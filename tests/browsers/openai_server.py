"""A server with OpenAI's API for pages of other origins, and what goes wrong with such servers."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

MODEL = "far-1"
WORDS = ("Hello ", "from ", "afar.")
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
Reply = Callable[[], Response]


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]}


def event(content: object) -> str:
    return f"data: {json.dumps(content)}\n\n"


def stream(*events: str) -> Response:
    return Response("".join(events), media_type="text/event-stream")


def refusal(status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
    error = {"message": message, "type": "some_error", "param": param, "code": code}
    return lambda: JSONResponse({"error": error}, status)


def portal() -> Response:
    return HTMLResponse("<p>Log in</p>")


def gateway() -> Response:
    return HTMLResponse("<h1>Bad gateway</h1>", 502)


def redirected(url: str) -> Reply:
    """To another server, with the method and the body."""
    return lambda: RedirectResponse(url, 307)


def broken() -> Response:
    return stream(event(chunk("Hal")))


def failing() -> Response:
    return stream(event(chunk("Hal")), event({"error": {"message": "It is too hot."}}))


async def _silence(beginning: str) -> AsyncIterator[str]:
    yield beginning
    await asyncio.sleep(3600)


def silent() -> Response:
    """Never ends, after headers and a comment."""
    return StreamingResponse(_silence(": waiting\n\n"), media_type="text/event-stream")


@dataclass
class Held:
    """A reply that begins and never ends; `left` is set once its client has gone."""

    begun: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[str]:
        try:
            yield event(chunk("Hal"))
            self.begun.set()
            await asyncio.sleep(3600)
        finally:
            self.left.set()


@dataclass
class OpenAiServer:
    key: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all requests for answers."""
    keys: list[str | None] = field(default_factory=list)
    next: Reply | None = None
    """What comes in place of the next answer."""
    listed: Any = field(default_factory=lambda: {"data": [{"id": MODEL, "max_model_len": 64}]})

    def app(self) -> Starlette:
        cors = Middleware(
            CORSMiddleware, allow_origins=["*"], allow_headers=["*"], allow_methods=["*"]
        )
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._answer, methods=["POST"]),
        ]
        return Starlette(routes=routes, middleware=[cors])

    async def _models(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse(self.listed)

    async def _answer(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        asked = await request.json()
        self.asked.append(asked)
        if reply := self.next:
            self.next = None
            return reply()
        if asked.get("stream"):
            events = [event(chunk(word)) for word in WORDS]
            usage = {**chunk(), "choices": [], "usage": USAGE}
            return stream(*events, event(chunk(finish="stop")), event(usage), "data: [DONE]\n\n")
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": USAGE}
        return JSONResponse(whole)

    def _refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization")
        self.keys.append(given)
        if self.key and given != f"Bearer {self.key}":
            return refusal(401, "Incorrect API key provided.", "invalid_api_key")()
        return None
