"""uvicorn with bounds on what a connection may do, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import socket
import struct
from asyncio.events import TimerHandle
from types import FrameType
from typing import Final

import httptools
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from contlearn.errors import ServingError
from contlearn.serving.site import Site

__all__ = ["GuardedProtocol", "HttpServer", "bind"]

_log = logging.getLogger("contlearn.serving")
_HEAD_SECONDS: Final = 10.0
_HEAD_BYTES: Final = 32_768
_MAX_CONNECTIONS: Final = 1_000
_KEEP_ALIVE_SECONDS: Final = 75
# After SIGTERM the server goes on answering for this long, with `connection: close` on every
# answer, so that clients leave before the listener does.
_LEAVE_SECONDS: Final = 0.5
# Then no new connection is let in, and those that were on their way are taken.
_LAST_CONNECTIONS_SECONDS: Final = 0.1
_FIRST_REQUEST_SECONDS: Final = 1.0
_SO_ATTACH_FILTER: Final = 26
_BACKLOG: Final = 2048


class GuardedProtocol(HttpToolsProtocol):
    """Bounds the size and the time of a request's head, and the number of connections."""

    _head_timer: TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _had_request = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > getattr(self.server_state, "max_connections", _MAX_CONNECTIONS):
            self._refuse(503, "There are too many connections.", "Try again in a moment.")
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head before the parser keeps it."""
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            # Data may hold a body as well; only what is still a head afterwards counts.
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if self._head_bytes > _HEAD_BYTES:
            self._refuse(431, "The head of the request is too large.", "Send fewer headers.")
        elif self._head_timer is None:
            # Most heads come whole; only one that did not is worth a timer.
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Begin a head; further ones of the same connection come here too."""
        super().on_message_begin()
        if not self._in_head:
            self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """End a head."""
        self._in_head, self._had_request = False, True
        self._stop_waiting()
        try:
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self._refuse(400, "The path of the request cannot be read.", "Encode it with %XX.")

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, in the shape of every error."""
        self._refuse(400, "The request is not valid HTTP/1.1.", "Check the client.")

    def shutdown(self) -> None:
        """Close when idle; a connection that has just been made may send its one request yet."""
        if not self._had_request:
            self.loop.call_later(_FIRST_REQUEST_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, "The head of the request did not arrive in time.", "Send it at once.")

    def _refuse(self, status: int, what: str, hint: str) -> None:
        body = json.dumps(
            {"error": what, "where": "connection", "hint": hint, "request_id": None}
        ).encode()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
                + b"connection: close\r\n\r\n"
                + body
            )
        self.transport.close()


class HttpServer(uvicorn.Server):
    """Serves an application; leaves in two steps: tell everybody, then close.

    Args:
        app: The application.
        site: What is behind it.
        listener: A bound socket (see `bind`).
    """

    def __init__(self, app: Starlette, site: Site, listener: socket.socket) -> None:
        settings = site.settings[0]
        super().__init__(
            uvicorn.Config(
                app,
                http=GuardedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
                **settings.tls,
            )
        )
        self.server_state.max_connections = settings.max_connections  # type: ignore[attr-defined]  # ours, read by GuardedProtocol
        self.site = site
        self.service = site.first
        self.listener = listener
        self.fell_ill = False

    @property
    def address(self) -> str:
        """Give the base URL."""
        host, port = self.listener.getsockname()[:2]
        scheme = "https" if self.config.is_ssl else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def serve_until_stopped(self) -> None:
        """Serve until a signal or `stop`; returns after the last answer.

        Raises:
            ServingError: When the server fell ill.
        """
        _log.info("listening", extra={"address": self.address})
        try:
            self.run(sockets=[self.listener])
        except KeyboardInterrupt:  # uvicorn raises Ctrl+C again once it has shut down
            return
        if self.fell_ill:
            raise ServingError(
                "The server stopped because following the champion ended unexpectedly.",
                where=str(self.service.settings.folder),
                hint="The log says why; start it again.",
            )

    def stop(self) -> None:
        """Begin to leave, as SIGTERM does."""
        self.site.drain()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal: readiness is false from now on."""
        self.site.drain()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Stop also when the follower ended unexpectedly: nobody should trust this process."""
        self.site.engine.look()
        if not self.site.alive and not self.should_exit:
            _log.critical("the champion is not followed any more; stopping")
            self.fell_ill = True
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let clients leave, then close what is left."""
        self.site.drain()
        if not self.force_exit:
            await asyncio.sleep(_LEAVE_SECONDS)
            _drop_new_connections(self.listener)
            await asyncio.sleep(_LAST_CONNECTIONS_SECONDS)
        await super().shutdown(sockets)


def _drop_new_connections(listener: socket.socket) -> None:
    """Let the kernel drop the first packet of every new connection.

    A listener that is closed resets what waits in its queue: connections that were made, with a
    request on its way. So the queue is emptied first while nothing new enters; a client whose
    packet was dropped tries again by itself and finds another server, or is refused.
    Source: packet(7) and socket(7), SO_ATTACH_FILTER; the filter sees the TCP header.
    """
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, 13),  # load the byte with the flags
            (0x54, 0, 0, 0x12),  # keep SYN and ACK
            (0x15, 0, 1, 0x02),  # SYN alone?
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFFFFFF),  # let pass
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    # Linux only; elsewhere the moment in which a connection can be lost stays.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_program)


def bind(host: str, port: int) -> socket.socket:
    """Take an address; port 0 takes any free one.

    Raises:
        ServingError: When it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # who comes while the server starts waits, instead of failing
    except OSError as error:
        listener.close()
        raise ServingError(
            f"The address {host}:{port} cannot be used: {error.strerror}.",
            where="serving.host and serving.port in contlearn.toml",
            hint="Choose another port, or stop the process that has this one.",
        ) from error
    listener.set_inheritable(True)
    return listener
