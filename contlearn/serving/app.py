"""The application and the process that serves it. Never loads torch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from contlearn.config import Config, ServingConfig
from contlearn.serving.compute.calibration import choose_layout
from contlearn.serving.compute.memory import keep_memory_together, quiet_collector
from contlearn.serving.compute.pool import WorkerPool
from contlearn.serving.http import control, plain, v1, v2_routes
from contlearn.serving.http.call import Call, Endpoint, Handler
from contlearn.serving.http.edge import Edge
from contlearn.serving.http.openapi import openapi_document
from contlearn.serving.settings import ServerSettings, settings_from_config
from contlearn.serving.site import Site
from contlearn.serving.versions.version import LoadedVersion
from contlearn.telemetry.logs import get_logger
from contlearn.telemetry.metrics import make_registry
from contlearn.workspace import Workspace

if TYPE_CHECKING:
    from contlearn.plugins.manager import PluginManager
    from contlearn.serving.http.server import HttpServer

__all__ = ["create_app", "run", "site_of"]

# What pages of elsewhere may send beside what every page may.
_FROM_PAGES: Final = (
    "authorization",
    "content-type",
    "inference-header-content-length",
    "x-contlearn-canary",
    "x-request-id",
)


def create_app(*settings: ServerSettings, registry: CollectorRegistry | None = None) -> Starlette:
    """Make the ASGI application of one model or several.

    Following the champions begins with the application's lifespan, not here.

    Args:
        settings: Everything each model works with; the first answers where none is named.
        registry: Where metrics appear; a new one if left out.
    """
    site = Site(settings, make_registry() if registry is None else registry)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        site.start()
        try:
            yield
        finally:
            await asyncio.to_thread(site.stop)

    doors = settings[0].doors
    middleware = [Middleware(Edge, site=site, direct=_direct(site))]
    if doors.origins:
        # Outermost, so that a page can read errors too.
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=list(doors.origins),
                allow_methods=["GET", "POST"],
                allow_headers=_FROM_PAGES,
                expose_headers=["x-request-id", "retry-after", "inference-header-content-length"],
            ),
        )
    app = Starlette(
        routes=_routes(site),
        middleware=middleware,
        exception_handlers={HTTPException: _raise_on},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.site = site
    return app


def site_of(app: Starlette) -> Site:
    """Give what is behind an application."""
    site: Site = app.state.site
    return site


async def _raise_on(_: Request, error: Exception) -> Response:
    """Let Edge write every error, so that all have one shape."""
    raise error


def _direct(site: Site) -> dict[tuple[str, str], ASGIApp]:
    """Give the routes that skip the router: asking a model."""
    direct: dict[tuple[str, str], ASGIApp] = {
        ("POST", "/predict"): Endpoint("/predict", site, plain.predict, {})
    }
    for name in site.services:
        template = "/v2/models/{model}/infer"
        endpoint = Endpoint(template, site, v2_routes.infer, {"model": name})
        direct["POST", template.format(model=name)] = endpoint
    return direct


def _routes(site: Site) -> list[Route]:
    def route(methods: str, path: str, handler: Handler) -> Route:
        return Route(path, Endpoint(path, site, handler), methods=methods.split())

    async def openapi(call: Call) -> None:
        await call.json(openapi_document(site.settings))

    model = "/v2/models/{model}"
    routes = [
        route("POST", "/predict", plain.predict),
        route("POST", "/models/{model}/predict", plain.predict),
        route("POST", f"{model}/infer", v2_routes.infer),
        route("GET", "/health/live", plain.live),
        route("GET", "/health/ready", plain.ready),
        route("GET", "/metrics", plain.metrics),
        route("GET", "/status", plain.status),
        route("GET", "/models/{model}/status", plain.status),
        route("GET", "/", plain.Page(site.settings[0].root_path)),
        route("GET", "/openapi.json", openapi),
        route("GET", "/v2", v2_routes.server_metadata),
        route("GET", "/v2/health/live", v2_routes.server_live),
        route("GET", "/v2/health/ready", v2_routes.server_ready),
        route("GET", "/v1/models", v1.models),
        route("POST", "/v1/models/{model}:predict", v1.predict),  # before the one that it fits too
        route("GET", "/v1/models/{model}", v1.model),
        route("POST", "/v2/repository/index", v2_routes.index),
        route("GET", "/v2/models/stats", v2_routes.all_stats),
    ]
    repository = "/v2/repository/models/{model}"
    routes += [  # each is found only while there are tokens for it
        route("POST", "/feedback", plain.feedback),
        route("POST", "/models/{model}/feedback", plain.feedback),
        # One route, so that the header Allow names both.
        route("GET POST", "/models/{model}/roles", control.roles),
        route("POST", f"{repository}/load", control.load),
        route("POST", f"{repository}/unload", control.unload),
    ]
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
    workspaces: Sequence[tuple[Workspace, Config]],
    manager: PluginManager,
    *,
    host: str | None = None,
    port: int | None = None,
    socket: Path | None = None,
) -> None:
    """Serve the champions of workspaces until SIGTERM or SIGINT.

    Args:
        workspaces: Each with the configuration in force. Address, workers, tokens, limits and
            certificates are those of the first.
        manager: Knows the tasks.
        host: Overrides `serving.host`.
        port: Overrides `serving.port`; 0 takes any free one, shown in the log.
        socket: Overrides `serving.socket`, and stands before host and port.
    Raises:
        ServingError: When the address is taken, or the server fell ill.
    """
    from contlearn.serving.http.server import HttpServer, bind, bind_socket

    # One text at a time is tokenised by each worker; a second pool of threads would fight them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_memory_together()
    first = workspaces[0][0]
    given = {"host": host, "port": port, "socket": None if socket is None else str(socket)}
    serving = _listening(workspaces[0][1].serving, given)
    config = workspaces[0][1].model_copy(update={"serving": serving})
    workspaces = [(first, config), *workspaces[1:]]
    place = first.root / serving.socket if serving.socket else None
    listener = bind(serving.host, serving.port) if place is None else bind_socket(place)
    pool = None
    if serving.isolation == "processes":
        layout = choose_layout(first.state / "serving", serving)
        pool = WorkerPool(
            layout.threads,
            manager,
            intra_threads=layout.intra_threads,
            plugins_dir=manager.folder,
            blocked=config.plugins.blocked,
            most_seconds=serving.deadline_seconds,
        )
        pool.start()
    try:
        settings = [settings_from_config(each, its, manager, pool=pool) for each, its in workspaces]
        app = create_app(*settings)
        _serve(HttpServer(app, site_of(app), listener), pool)
    finally:
        listener.close()
        if place is not None:
            place.unlink(missing_ok=True)
        if pool is not None:
            pool.stop()


def _listening(serving: ServingConfig, given: Mapping[str, str | int | None]) -> ServingConfig:
    """Put what the caller names in the place of what is configured; an address ends a socket."""
    named = {key: value for key, value in given.items() if value is not None}
    if not named:
        return serving
    return ServingConfig.model_validate({**serving.model_dump(), "socket": "", **named})


def _serve(server: HttpServer, pool: WorkerPool | None) -> None:
    site = server.site
    site.pool = pool
    if pool is not None:
        replaced = site.instruments.counter("workers_replaced_total")
        pool.on_replaced = lambda reason: replaced.labels(reason).inc()

    def loaded(_: LoadedVersion) -> None:
        if site.first.follower.swaps == 1:
            quiet_collector()

    site.first.follower.on_swap = loaded
    get_logger("contlearn.serving").info(
        "starting",
        models=", ".join(site.services),
        pid=os.getpid(),
        workers=site.settings[0].engine.workers,
        processes=pool is not None,
    )
    # uvicorn raises the signal again when it has shut down; by then it has done its work.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.serve_until_stopped()
