"""The application and the process that serves it. Never loads torch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contlearn.config import Config
from contlearn.errors import ServingError
from contlearn.serving import plain, v2_routes
from contlearn.serving.call import Call, Endpoint, Handler
from contlearn.serving.edge import Edge
from contlearn.serving.memory import keep_memory_together, quiet_collector
from contlearn.serving.openapi import openapi_document
from contlearn.serving.service import Service
from contlearn.serving.settings import ServerSettings, settings_from_config
from contlearn.serving.version import LoadedVersion
from contlearn.telemetry.logs import get_logger
from contlearn.telemetry.metrics import make_registry
from contlearn.workspace import Workspace

if TYPE_CHECKING:
    from contlearn.plugins.manager import PluginManager

__all__ = ["create_app", "run", "service_of"]


def create_app(settings: ServerSettings, *, registry: CollectorRegistry | None = None) -> Starlette:
    """Make the ASGI application of one model.

    Following the champion begins with the application's lifespan, not here.

    Args:
        settings: Everything it works with.
        registry: Where its metrics appear; a new one if left out.
    """
    service = Service(settings, make_registry() if registry is None else registry)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.stop)

    app = Starlette(
        routes=_routes(service),
        middleware=[Middleware(Edge, service=service)],
        exception_handlers={HTTPException: _raise_on},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


def service_of(app: Starlette) -> Service:
    """Give the service behind an application."""
    service: Service = app.state.service
    return service


async def _raise_on(_: Request, error: Exception) -> Response:
    """Let Edge write every error, so that all have one shape."""
    raise error


def _routes(service: Service) -> list[Route]:
    def route(method: str, path: str, handler: Handler) -> Route:
        return Route(path, Endpoint(path, service, handler), methods=[method])

    document = openapi_document(service.settings)

    async def openapi(call: Call) -> None:
        await call.json(document)

    model = "/v2/models/{model}"
    routes = [
        route("POST", "/predict", plain.predict),
        route("POST", f"{model}/infer", v2_routes.infer),
        route("GET", "/health/live", plain.live),
        route("GET", "/health/ready", plain.ready),
        route("GET", "/metrics", plain.metrics),
        route("GET", "/status", plain.status),
        route("GET", "/", plain.Page()),
        route("GET", "/openapi.json", openapi),
        route("GET", "/v2", v2_routes.server_metadata),
        route("GET", "/v2/", v2_routes.server_metadata),
        route("GET", "/v2/health/live", v2_routes.server_live),
        route("GET", "/v2/health/ready", v2_routes.server_ready),
        route("POST", "/v2/repository/index", v2_routes.index),
        route("GET", "/v2/models/stats", v2_routes.model_stats),
    ]
    if service.desk is not None:  # without a token there is no such route
        routes.append(route("POST", "/feedback", plain.feedback))
    for prefix in (model, f"{model}/versions/{{version}}"):
        routes += [
            route("GET", prefix, v2_routes.model_metadata),
            route("GET", f"{prefix}/ready", v2_routes.model_ready),
            route("GET", f"{prefix}/config", v2_routes.model_config),
            route("GET", f"{prefix}/stats", v2_routes.model_stats),
        ]
    routes.append(route("POST", f"{model}/versions/{{version}}/infer", v2_routes.infer))
    return routes


def run(
    workspace: Workspace,
    config: Config,
    manager: PluginManager,
    *,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Serve the champion of a workspace until SIGTERM or SIGINT.

    Args:
        workspace: Where the serving directory and the prediction log are.
        config: The configuration in force.
        manager: Knows the task.
        host: Overrides `serving.host`.
        port: Overrides `serving.port`; 0 takes any free one, shown in the log.
    Raises:
        ServingError: When uvicorn is missing, the address is taken, or the server fell ill.
    """
    try:
        from contlearn.serving.server import HttpServer, bind
    except ModuleNotFoundError as error:
        raise ServingError(
            f"The server needs {error.name}, which is not installed.",
            where="contlearn serve",
            hint="pip install 'contlearn[serve]'",
        ) from error
    # One text at a time is tokenised by each worker; a second pool of threads would fight them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_memory_together()
    settings = settings_from_config(workspace, config, manager)
    app = create_app(settings)
    service = service_of(app)

    def loaded(_: LoadedVersion) -> None:
        if service.follower.swaps == 1:
            quiet_collector()

    service.follower.on_swap = loaded
    get_logger("contlearn.serving").info(
        "starting", model=settings.name, pid=os.getpid(), workers=settings.engine.workers
    )
    # uvicorn raises the signal again when it has shut down; by then it has done its work.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = bind(host or config.serving.host, config.serving.port if port is None else port)
    HttpServer(app, service, listener).serve_until_stopped()
