"""The daemon's HTTP application, from the outermost layer to the routes."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from edge.daemon.access import Access
from edge.daemon.api import Api
from edge.daemon.errors import ApiError, from_http
from edge.daemon.guards import Cors, HostGuard, KeyGuard, RoomGuard
from edge.daemon.metrics import Metrics
from edge.daemon.model import ServedModel
from edge.daemon.page import Page
from edge.daemon.settings import Settings

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_daemon_app(settings: Settings, model: ServedModel, page: Page) -> Starlette:
    """The application; `model` and `page` may be filled in later."""
    metrics = Metrics(model)
    api = Api(model, settings)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        if model.state != "ready":
            raise model.refusal()
        return JSONResponse({"status": "ready"})

    # Not a coroutine: Starlette runs it in a thread, since sensors are files.
    def scrape(request: Request) -> Response:
        return Response(metrics.text(), media_type=METRICS_TYPE)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", scrape),
            *api.text_routes(),
            Mount("/v1", routes=api.routes()),
            Mount("/", page),
        ],
        middleware=[
            Middleware(Access, metrics=metrics),
            Middleware(RoomGuard),
            Middleware(HostGuard, settings=settings),
            Middleware(Cors, settings=settings),
            Middleware(KeyGuard, settings=settings),
        ],
        exception_handlers={ApiError: answer_error, HTTPException: answer_http_error},
    )


async def answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return from_http(error).response()
