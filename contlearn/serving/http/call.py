"""One request on its way through a route."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.types import Receive, Scope, Send

from contlearn.serving.http.problems import no_such_path
from contlearn.serving.http.tokens import Role
from contlearn.serving.http.wire import header, read_body, send_bytes, send_json
from contlearn.serving.service import Service
from contlearn.serving.site import Site

__all__ = ["CANARY", "REQUEST_ID", "ROUTE", "Call", "Endpoint", "Handler"]

# What a client says about the canary: always, never, or a key whose requests stay together.
CANARY: Final = b"x-contlearn-canary"
REQUEST_ID: Final = "contlearn.request_id"
ROUTE: Final = "contlearn.route"


@dataclass(frozen=True, slots=True)
class Call:
    """The server's models, and the three parts of an ASGI request."""

    site: Site
    scope: Scope
    receive: Receive
    send: Send

    @property
    def service(self) -> Service:
        """Give the model that the path names, or the first.

        Raises:
            RequestProblem: 404 when there is none of this name.
        """
        return self.site.service(self.scope["path_params"].get("model"))

    def require(self, role: Role) -> None:
        """Check the client's token.

        Raises:
            RequestProblem: 401 or 403; 404 where nobody has this role.
        """
        tokens = self.site.settings[0].tokens
        if not tokens.has(role):
            raise no_such_path()
        tokens.require(role, self.header(b"authorization"))

    def require_if_closed(self) -> None:
        """Check the client's token where predicting needs one: where any has the role predict.

        Raises:
            RequestProblem: 401 or 403.
        """
        if self.site.settings[0].tokens.has("predict"):
            self.require("predict")

    @property
    def request_id(self) -> str:
        """Give the request's id, the client's own if it sent one that nobody had before."""
        return str(self.scope[REQUEST_ID])

    def answered_as(self, request_id: str) -> None:
        """Note under which id the request was answered: header, log and traces go by it."""
        self.scope[REQUEST_ID] = request_id

    def header(self, name: bytes) -> str | None:
        """Give a header by its lower-case name."""
        return header(self.scope, name)

    async def body(self, max_bytes: int | None = None) -> bytes:
        """Read the body within the server's bounds.

        Raises:
            RequestProblem: When it is too large, too slow, or damaged.
        """
        limits = self.site.settings[0].limits
        return await read_body(
            self.scope,
            self.receive,
            max_bytes=limits.body_bytes if max_bytes is None else max_bytes,
            seconds=limits.body_seconds,
        )

    async def json(
        self, value: object, *, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Answer with JSON."""
        await send_json(self.send, value, status=status, headers=headers or [])

    async def bytes(self, body: bytes, *, headers: list[tuple[bytes, bytes]]) -> None:
        """Answer with bytes."""
        await send_bytes(self.send, body, headers=headers)

    def gone(self) -> asyncio.Future[None]:
        """Wait for the client to go away; started only for requests that take long."""

        async def wait() -> None:
            while (await self.receive())["type"] != "http.disconnect":
                continue

        return asyncio.ensure_future(wait())


Handler: TypeAlias = Callable[[Call], Awaitable[None]]


class Endpoint:
    """A route's handler with what it needs; its template is what metrics count it under."""

    def __init__(
        self,
        template: str,
        site: Site,
        handler: Handler,
        path_params: Mapping[str, str] | None = None,
    ) -> None:
        self.template = template
        self.site = site
        self.handler = handler
        self.path_params = path_params

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope[ROUTE] = self.template
        if self.path_params is not None:
            scope["path_params"] = self.path_params
        await self.handler(Call(self.site, scope, receive, send))
