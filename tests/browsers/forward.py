"""What stands between a browser and a server: passes requests on and answers back, as they come."""

import httpx
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tests.daemon.daemons import TIMEOUT_S

OF_THE_CONNECTION = {"connection", "content-length", "host", "transfer-encoding"}


class Forward:
    """An ASGI application in front of `url`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # One for all requests, and without certificates to read, which takes longer than they do.
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, verify=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        headers = {
            name: self.url if name == "origin" else value
            for name, value in request.headers.items()
            if name not in OF_THE_CONNECTION
        }
        target = f"{self.url}{request.url.path}?{request.url.query}"
        async with self._client.stream(
            request.method, target, headers=headers, content=body
        ) as response:
            kept = [
                (name, value)
                for name, value in response.headers.raw
                if name.lower().decode() not in OF_THE_CONNECTION
            ]
            start = {"type": "http.response.start", "status": response.status_code}
            await send({**start, "headers": kept})
            async for part in response.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
