"""The outermost layer: request ids, one shape of error, counting, and draining."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contlearn.errors import ContlearnError
from contlearn.places import without_places
from contlearn.serving.http.call import REQUEST_ID, ROUTE
from contlearn.serving.http.problems import RequestProblem, no_such_path
from contlearn.serving.http.request_ids import is_client_id, new_id
from contlearn.serving.http.wire import header, send_json
from contlearn.serving.site import Site
from contlearn.telemetry.server_metrics import ServerMetrics

__all__ = ["Edge"]

_log = logging.getLogger("contlearn.serving")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """Wraps the application.

    Every answer carries `x-request-id`: the client's own, unless it was used before or has the form
    of ours, else one of 128 random bits. A problem becomes JSON with its three parts; anything else
    that is raised is a bug: it is logged with its traceback, and the client learns only the
    request id. While the server drains, connections are closed after their answer. What is for
    another host, or from a page of elsewhere, is turned away here.

    Args:
        app: What answers everything else.
        site: What is behind it.
        direct: The routes that must be quick, by method and path: they skip the router.
    """

    def __init__(self, app: ASGIApp, site: Site, direct: Mapping[tuple[str, str], ASGIApp]) -> None:
        self.app = app
        self.site = site
        self.direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        given = header(scope, b"x-request-id")
        # A route that answers texts gives the request another id where this one was used before.
        scope[REQUEST_ID] = given if given and is_client_id(given) else new_id()
        status, begun_ns = 0, 0
        traces = self.site.traces
        if traces is not None:
            begun_ns = time.time_ns()
            traces.begin_request()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                headers.append((b"x-request-id", scope[REQUEST_ID].encode("ascii")))
                if self.site.draining:
                    headers.append((b"connection", b"close"))
            await send(message)

        self._take_root_path_off(scope)
        try:
            self.site.settings[0].doors.check(scope)
            app = self.direct.get((scope["method"], scope["path"]), self.app)
            await app(scope, receive, send_marked)
        except RequestProblem as problem:
            rejected = self._metrics(scope).rejected.get(problem.reason)
            if rejected is not None:
                rejected.inc()
            status = await self._explain(problem, scope[REQUEST_ID], status, send_marked)
        except HTTPException as error:
            status = await self._explain(
                _plain(error, scope), scope[REQUEST_ID], status, send_marked
            )
        except ContlearnError as error:
            _log.error("request failed", extra={"request_id": scope[REQUEST_ID], **_three(error)})
            told = without_places(error, self.site.folders)
            failure = RequestProblem(500, told.what, where=told.where, hint=told.hint)
            status = await self._explain(failure, scope[REQUEST_ID], status, send_marked)
        except Exception:
            _log.exception("request failed", extra={"request_id": scope[REQUEST_ID]})
            failure = RequestProblem(
                500,
                "The server failed on this request.",
                where="server",
                hint="Its log says why, under this request id.",
            )
            status = await self._explain(failure, scope[REQUEST_ID], status, send_marked)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            if traces is not None:
                traces.end_request(
                    route=scope.get(ROUTE, "other"),
                    method=method,
                    code=status,
                    begun=begun_ns,
                    request_id=scope[REQUEST_ID],
                    parent=header(scope, b"traceparent"),
                )
            self.site.instruments.request(
                self._metrics(scope).model,
                scope.get(ROUTE, "other"),
                method=method,
                code=status,
                seconds=time.perf_counter() - begun,
                request_id=scope[REQUEST_ID],
            )

    def _take_root_path_off(self, scope: Scope) -> None:
        """Answer below the proxy's path as without it, and with a slash at the end as without.

        Nobody is sent elsewhere: where that is, only the header Host would say.
        """
        path, root = scope["path"], self.site.settings[0].root_path
        if root and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :] or "/"
        if len(path) > 1 and path.endswith("/"):
            path = path[:-1]
        scope["path"] = path

    def _metrics(self, scope: Scope) -> ServerMetrics:
        name = scope.get("path_params", {}).get("model")
        return self.site.services.get(name, self.site.first).metrics

    async def _explain(
        self, problem: RequestProblem, request_id: str, status: int, send: Any
    ) -> int:
        if status:  # the answer has begun: its connection is closed instead
            raise problem
        headers = problem.headers()
        if problem.status in (408, 413):
            headers.append((b"connection", b"close"))  # what is left of the body is not read
        await send_json(send, problem.body(request_id), status=problem.status, headers=headers)
        return problem.status


def _three(error: ContlearnError) -> dict[str, str | None]:
    return {"what": error.what, "where": error.where, "hint": error.hint}


def _plain(error: HTTPException, scope: Scope) -> RequestProblem:
    if error.status_code == 404:
        return no_such_path()
    if error.status_code == 405:
        allowed = ", ".join(sorted(((error.headers or {}).get("Allow") or "").split(", ")))
        return RequestProblem(
            405,
            f"{scope['method'][:20]} is not taken here.",
            where="method",
            hint=f"Use {allowed}." if allowed else None,
            allow=allowed,
        )
    return RequestProblem(error.status_code, str(error.detail))
