"""The routes: predict, health, metrics, networks, and pages for people."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

import resnext
from resnext.deploy.explore import BATCH, Setting, record, server_page
from resnext.deploy.pages import embedded, render
from resnext.deploy.serving.frontier import Frontier
from resnext.deploy.serving.logs import JsonLines
from resnext.deploy.serving.refusal import RefusalError
from resnext.deploy.serving.service import Service
from resnext.deploy.serving.uploads import MIB, uploads_of, within
from resnext.errors import ResNextError

_MOST_CLASSES = 1000
_PRIVATE = {"given", "weights", "class_names", "calibrate"}
"""Settings that say where files lie."""

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                    "required": ["file"],
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                }
            }
        },
    }
    for status, text in (
        (400, "The request is no whole one."),
        (408, "The body did not come in time."),
        (413, "Too many bytes or files."),
        (415, "Another kind of body."),
        (422, "Pictures, or words of the query, that cannot be used; the reason names them."),
        (503, "Busy, ending, or out of time or memory: come again after Retry-After seconds."),
    )
}


def make_app(service: Service, log: JsonLines) -> Frontier:
    """The application; everything that goes in and out passes its frontier."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="resnext",
        version=resnext.__version__,
        description="Pictures to classes, and networks to their cost.",
        docs_url=None,  # that page would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_predict(app, service)
    _add_health(app, service)
    _add_networks(app, service)
    _add_pages(app, service)
    routes = tuple(route.path for route in app.routes if isinstance(route, Route))
    _add_errors(app, routes)
    return Frontier(app, service, log, routes)


def _add_predict(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.post("/predict", openapi_extra=_BODY, responses=_REFUSED, tags=["pictures"])
    async def predict(
        request: Request,
        *,
        top: Annotated[int, Query(ge=1, le=_MOST_CLASSES, description="Classes.")] = 5,
        explain: Annotated[bool, Query(description="Add class activation maps.")] = False,
    ) -> dict[str, Any]:
        """The most likely classes of one picture, or of several files of a form."""
        if not service.ready:
            raise RefusalError(503, "expected a server that runs, found one that ends", 1)
        service.gate.check()
        with within(service.gate) as body:
            content = await body.read(
                request, most=settings.upload_mib * MIB, seconds=settings.receive_seconds
            )
            kind = request.headers.get("content-type", "")
            uploads = await service.aside(partial(uploads_of, kind, content, files=settings.files))
            del content  # the files of a form are copies
            request.state.pictures = len(uploads)
            pictures = await service.predict(uploads, top=top, explain=explain)
        return {**service.about(), "pictures": pictures}


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, bool]:
        """Whether the process answers at all."""
        return {"live": True}

    @app.get("/health/ready", responses={503: _REFUSED[503]}, tags=["health"])
    async def ready() -> dict[str, bool]:
        """Whether pictures are taken now."""
        if not service.ready:
            raise RefusalError(503, "expected a server that runs, found one that ends", 1)
        return {"ready": True}

    @app.get("/health", tags=["health"])
    async def health() -> dict[str, Any]:
        """What is served, and how."""
        return {
            "live": True,
            "ready": service.ready,
            "version": resnext.__version__,
            **service.about(),
            "settings": service.settings.model_dump(exclude=_PRIVATE),
        }

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Counts and times in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_networks(app: FastAPI, service: Service) -> None:
    @app.get("/api/spec", responses={422: _REFUSED[422]}, tags=["networks"])
    async def spec(
        *,
        network: Annotated[str | None, Query(max_length=200, description="Any name.")] = None,
        family: Annotated[str, Query(pattern="^(imagenet|cifar|wide)$")] = "imagenet",
        preactivation: bool = False,
        depth: int = 50,
        cardinality: int = 32,
        width: int = 4,
        shortcut: Annotated[str, Query(pattern="^(A|B|C|none)$")] = "B",
        classes: int = 1000,
        resolution: int | None = None,
        batch: Annotated[int, Query(ge=1, le=100_000)] = BATCH,
    ) -> dict[str, Any]:
        """A network's stages, exact cost, drawings and neighbours: by name, or by its parts."""
        if network is not None:
            return await service.aside(lambda: record(Setting.of(network, resolution), batch))
        fallback = 224 if family == "imagenet" else 32
        parts: dict[str, Any] = {
            "family": family,
            "preactivation": preactivation,
            "depth": depth,
            "cardinality": cardinality,
            "width": width,
            "shortcut": shortcut,
            "classes": classes,
            "resolution": fallback if resolution is None else resolution,
        }
        return await service.aside(lambda: record(Setting(**parts), batch))


def _add_pages(app: FastAPI, service: Service) -> None:
    about, most = service.about(), service.settings.upload_mib * MIB
    given = embedded(json.dumps({"most_bytes": most}))
    pages = {
        "/": render("predict", connect=True, about=about, given=given),
        "/explore": server_page(),
    }
    for path, page in pages.items():
        app.add_api_route(path, _page(page), include_in_schema=False, response_class=HTMLResponse)


def _page(text: str) -> Callable[[], Awaitable[HTMLResponse]]:
    async def page() -> HTMLResponse:
        return HTMLResponse(text)

    return page


def _add_errors(app: FastAPI, routes: Sequence[str]) -> None:
    @app.exception_handler(RefusalError)
    async def refused(_: Request, error: RefusalError) -> JSONResponse:
        headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
        return JSONResponse({"error": error.message}, error.status, headers)

    @app.exception_handler(ResNextError)
    async def wrong(_: Request, error: ResNextError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            f"{problem['msg'].replace('Input should', 'expected it to')} for "
            f"{problem['loc'][-1]}, found {str(problem.get('input'))[:80]!r}"
            for problem in error.errors()
        ]
        return JSONResponse({"error": "; ".join(found)}, 422)

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        del error  # the frontier logs it; it may hold what is nobody's business
        return JSONResponse({"error": "expected an answer, found a fault of the server"}, 500)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        found = f"expected one of {', '.join(routes)}, found {request.url.path[:80]}"
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another")
            found = f"expected {allowed}, found {request.method}"
        return JSONResponse({"error": found}, error.status_code, error.headers)
