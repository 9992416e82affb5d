"""The daemon's small HTTP server: metrics and health. Each question is answered by one function."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeAlias

import structlog

from contlearn.context import Context
from contlearn.daemon.host import Daemon
from contlearn.errors import ContlearnError, UsageError
from contlearn.hosts import OwnHosts
from contlearn.operations.metrics import Measuring
from contlearn.pages.style import html_page
from contlearn.places import without_places
from contlearn.telemetry.metrics import DaemonCollector, encode_metrics, make_registry

__all__ = ["Answer", "Route", "daemon_routes", "start_endpoint"]

# Status, content type, body.
Answer: TypeAlias = tuple[int, str, bytes]
Route: TypeAlias = Callable[[Mapping[str, str]], Answer]
_JSON: Final = "application/json"
_SECONDS: Final = 30.0
_RELOAD_SECONDS: Final = 30
_NOT_OURS: Final = {
    "error": "The daemon does not go by this name.",
    "where": "header host",
    "hint": "Name it in serving.allowed_hosts, if it is the machine's.",
}


def daemon_routes(daemon: Daemon) -> dict[str, Route]:
    """Give the routes of the daemon: path → what answers, given the request's headers."""
    registry = make_registry()
    registry.register(
        DaemonCollector(
            *(Measuring(watch.context).snapshot for watch in daemon.watches),
            heartbeat=daemon.heartbeat,
            blocked=daemon.blocked,
        )
    )

    def metrics(headers: Mapping[str, str]) -> Answer:
        body, content_type = encode_metrics(registry, headers.get("accept", ""))
        return 200, content_type, body

    def checked(check: Callable[[], tuple[bool, dict[str, Any]]]) -> Route:
        def answer_check(_headers: Mapping[str, str]) -> Answer:
            ok, value = check()
            return (200 if ok else 503), _JSON, json.dumps(value).encode() + b"\n"

        return answer_check

    def page(context: Context) -> Route:
        def answer_page(_headers: Mapping[str, str]) -> Answer:
            from contlearn.operations.overview import read_overview
            from contlearn.pages.overview import render_overview

            body = render_overview(read_overview(context), live_seconds=_RELOAD_SECONDS)
            return 200, "text/html; charset=utf-8", body.encode()

        return answer_page

    pages = {f"/models/{w.context.config.model.name}": page(w.context) for w in daemon.watches}
    return {
        "/": page(daemon.watches[0].context) if len(pages) == 1 else _index(sorted(pages)),
        **pages,
        "/metrics": metrics,
        "/health/live": checked(daemon.health),
        "/health/ready": checked(daemon.is_ready),
    }


@contextlib.contextmanager
def start_endpoint(context: Context, routes: Mapping[str, Route]) -> Iterator[str]:
    """Answer while the block runs, each request in a thread of its own.

    Args:
        context: Its configuration names host and port.
        routes: What there is.
    Yields:
        The address, with the port that was taken.
    Raises:
        UsageError: When the port is taken by another program.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS
        protocol_version = "HTTP/1.1"
        server_version = "contlearn"
        sys_version = ""

        def do_GET(self) -> None:  # the name that http.server calls
            """Answer a route, or say what there is."""
            route = routes.get(self.path.partition("?")[0])
            headers = {name.lower(): value for name, value in self.headers.items()}
            name = hosts.name_of(headers.get("host", "localhost"))
            try:
                if name not in hosts:
                    answer = (400, _JSON, json.dumps(_NOT_OURS).encode())
                else:
                    answer = route(headers) if route else _nothing(routes)
            except Exception as error:
                answer = _failed(error)
            status, content_type, body = answer
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                if self.command != "HEAD":
                    self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # the name that http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: scrapes would fill the log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 16

        def handle_error(self, *_: Any) -> None:
            """A client that went away is no event."""

    hosts = OwnHosts(context.config.serving.allowed_hosts, context.config.monitoring.host)
    host, port = context.config.monitoring.host, context.config.monitoring.port
    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise UsageError(
            f"The metrics cannot be offered at {host}:{port}: {error.strerror}.",
            where="monitoring.port in contlearn.toml",
            hint="Choose another port with --port, or 0 for a free one.",
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _failed(error: Exception) -> Answer:
    """Answer what went wrong; where things lie on this machine stands in the log only."""
    structlog.get_logger("contlearn.daemon").error("request failed", error=str(error))
    told = error if isinstance(error, ContlearnError) else ContlearnError(type(error).__name__)
    value = {**without_places(told).to_json(), "hint": "The daemon's log says more."}
    return 500, _JSON, json.dumps(value).encode() + b"\n"


def _index(paths: Sequence[str]) -> Route:
    """Give a page that links to those of the models."""
    links = "".join(f'<li><a href="{escape(p)}">{escape(p[8:])}</a></li>' for p in paths)
    page = html_page("contlearn", f"<h1>Models</h1><ul>{links}</ul>").encode()
    return lambda _headers: (200, "text/html; charset=utf-8", page)


def _nothing(routes: Mapping[str, Route]) -> Answer:
    body = json.dumps({"error": "There is nothing here.", "hint": f"Ask {', '.join(routes)}."})
    return 404, _JSON, body.encode() + b"\n"
