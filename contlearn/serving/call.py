"""One request on its way through a route."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.types import Receive, Scope, Send

from contlearn.serving.service import Service
from contlearn.serving.wire import header, read_body, send_bytes, send_json

__all__ = ["REQUEST_ID", "ROUTE", "Call", "Endpoint", "Handler"]

REQUEST_ID: Final = "contlearn.request_id"
ROUTE: Final = "contlearn.route"


@dataclass(frozen=True, slots=True)
class Call:
    """The service, and the three parts of an ASGI request."""

    service: Service
    scope: Scope
    receive: Receive
    send: Send

    @property
    def request_id(self) -> str:
        """Give the request's id, the client's own if it sent one."""
        return str(self.scope[REQUEST_ID])

    def header(self, name: bytes) -> str | None:
        """Give a header by its lower-case name."""
        return header(self.scope, name)

    async def body(self, max_bytes: int | None = None) -> bytes:
        """Read the body within the server's bounds.

        Raises:
            RequestProblem: When it is too large, too slow, or damaged.
        """
        limits = self.service.settings.limits
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

    def __init__(self, template: str, service: Service, handler: Handler) -> None:
        self.template = template
        self.service = service
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope[ROUTE] = self.template
        await self.handler(Call(self.service, scope, receive, send))
