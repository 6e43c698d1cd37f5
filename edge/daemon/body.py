"""Request bodies: JSON objects of limited size."""

import asyncio
import json
from typing import Any

from starlette.requests import Request

from edge.daemon.errors import ApiError

# A client that sends nothing for this long, or takes this long in all, holds memory for nothing.
SILENCE_S = 10
BODY_TIMEOUT_S = 60
CONTENT_TYPES = ("application/json", "text/json")
# What is left of a body that nobody reads is not to be sent.
CLOSE = {"connection": "close"}


async def read_params(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body's JSON object; raises ApiError 400, 408, 413, 415 or 422.

    ClientDisconnect when the client leaves before its end.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in CONTENT_TYPES:
        text = f"The body is {kind or 'of no type'}: send JSON as `Content-Type: application/json`."
        raise ApiError(415, "unsupported_media_type", text)
    try:
        body = await asyncio.wait_for(_read(request, max_bytes), BODY_TIMEOUT_S)
    except asyncio.TimeoutError:
        text = (
            f"The body took longer than {BODY_TIMEOUT_S} s, or {SILENCE_S} s brought nothing of it."
        )
        raise ApiError(408, "request_timeout", text, headers=CLOSE) from None
    return _parse(body)


async def _read(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    body = bytearray()
    too_long = declared.isdigit() and int(declared) > max_bytes
    chunks = request.stream()
    while (
        not too_long
        and (chunk := await asyncio.wait_for(anext(chunks, None), SILENCE_S)) is not None
    ):
        body += chunk
        too_long = len(body) > max_bytes
    if too_long:
        text = f"The body is longer than {max_bytes} bytes, which --max-body allows."
        raise ApiError(413, "request_too_large", text, headers=CLOSE)
    return bytes(body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        params = json.loads(body, parse_constant=_refuse_constant)
        # Half of a surrogate pair is no character: no tokenizer takes it.
        json.dumps(params, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        text = f"The body is not JSON: {str(error) or 'nested too deeply'}."
        raise ApiError(400, "invalid_json", text) from error
    if not isinstance(params, dict):
        text = f"The body is a JSON {type(params).__name__}, expected an object with parameters."
        raise ApiError(422, "invalid_body", text)
    return params


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
