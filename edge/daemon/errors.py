"""Errors as OpenAI's API words them. Clients act on `status` and `code`."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from mlc_edge.errors import EngineError, MlcEdgeError

RETRY_AFTER_S = 5
ENGINE_STATUS = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "model_not_found": 404,
    "queue_full": 429,
    "engine_stopped": 503,
    "out_of_memory": 503,
    "internal": 500,
}
ENGINE_RETRY_S = {"queue_full": 1, "engine_stopped": RETRY_AFTER_S, "out_of_memory": RETRY_AFTER_S}
INTERNAL = "The daemon failed to answer. Its log says why, under this request's id."


class ApiError(MlcEdgeError):
    """An answer that isn't a result: HTTP status, and OpenAI's fields of an error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The JSON object that clients get."""
        kind = {429: "rate_limit_error", 503: "service_unavailable"}.get(
            self.status, "server_error" if self.status >= 500 else "invalid_request_error"
        )
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> Response:
        return JSONResponse(self.body(), self.status, headers=self.headers)


def unavailable(code: str, message: str, retry_after_s: int = RETRY_AFTER_S) -> ApiError:
    """503, with the time after which another try is worth it."""
    return ApiError(503, code, message, headers={"retry-after": str(retry_after_s)})


def internal() -> ApiError:
    """500; what happened is for the log alone."""
    return ApiError(500, "internal", INTERNAL)


def from_engine(error: EngineError) -> ApiError:
    """The engine's refusal as an answer; the text of an internal failure is not for clients."""
    # To an engine another model's name is a wrong parameter; OpenAI's clients expect 404.
    other_model = (error.code, error.param) == ("invalid_request", "model")
    code = "model_not_found" if other_model else error.code
    status = ENGINE_STATUS.get(code, 500)
    if status == 500:
        return internal()
    retry_s = ENGINE_RETRY_S.get(code)
    headers = {"retry-after": str(retry_s)} if retry_s else None
    return ApiError(status, code, str(error), param=error.param, headers=headers)


def from_http(error: HTTPException) -> ApiError:
    """What routing refuses."""
    texts = {
        404: ("not_found", "Nothing is here. The API is under /v1/, such as /v1/models."),
        405: ("method_not_allowed", "This address doesn't take this method."),
    }
    code, message = texts.get(error.status_code, ("refused", error.detail))
    return ApiError(error.status_code, code, message, headers=error.headers)
