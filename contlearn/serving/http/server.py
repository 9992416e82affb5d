"""uvicorn with bounds on what a connection may do, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import resource
import socket
import struct
from asyncio.events import TimerHandle
from pathlib import Path
from types import FrameType
from typing import Final

import httptools
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from contlearn.errors import ServingError
from contlearn.serving.http.certificates import Certificate
from contlearn.serving.site import Site

__all__ = ["GuardedProtocol", "HttpServer", "bind", "bind_socket", "room_for"]

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
# Between two looks at the files of tokens and certificates, in uvicorn's ticks of 0.1 s.
_REREAD_TICKS: Final = 10
# Files that a server opens beside its connections: versions, logs, and those just turned away.
_FILES_BESIDE: Final = 64
_FEWEST_CONNECTIONS: Final = 8
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
        self.server_state.max_connections = room_for(settings.max_connections)  # type: ignore[attr-defined]  # ours, read by GuardedProtocol
        self.site = site
        self.service = site.first
        self.listener = listener
        self.fell_ill = False
        self._certificate: Certificate | None = None

    @property
    def address(self) -> str:
        """Give the base URL; of a Unix socket its path behind `unix:`."""
        if self.listener.family == socket.AF_UNIX:
            return f"unix:{self.listener.getsockname()}"
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        if self.config.ssl is not None:
            self._certificate = Certificate(self.site.settings[0].tls, self.config.ssl)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Stop also when the follower ended unexpectedly: nobody should trust this process."""
        self.site.engine.look()
        if counter % _REREAD_TICKS == 0:
            await asyncio.to_thread(self._look_at_secrets)
        if not self.site.alive and not self.should_exit:
            _log.critical("the champion is not followed any more; stopping")
            self.fell_ill = True
            self.should_exit = True
        return await super().on_tick(counter)

    def _look_at_secrets(self) -> None:
        self.site.refresh()
        if self._certificate is not None:
            self._certificate.refresh()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let clients leave, then close what is left."""
        self.site.drain()
        if not self.force_exit:
            await asyncio.sleep(_LEAVE_SECONDS)
            if self.listener.family != socket.AF_UNIX:
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
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    shown = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # who comes while the server starts waits, instead of failing
    except OSError as error:
        listener.close()
        raise ServingError(
            f"The address {shown} cannot be used: {error.strerror}.",
            where="serving.host and serving.port in contlearn.toml",
            hint="Choose another port, or stop the process that has this one.",
        ) from error
    listener.set_inheritable(True)
    return listener


def bind_socket(path: Path) -> socket.socket:
    """Take a Unix socket, also where a server that ended left one behind.

    Who may connect says the folder, and the socket: this user and its group.

    Raises:
        ServingError: When it cannot be had.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _is_listened_at(path):
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ServingError(
            f"The socket cannot be used: {error.strerror or error}.",
            where=f"{path} (serving.socket in contlearn.toml, or --socket)",
            hint="Name a short path in a folder that this user may write to, or stop the process "
            "that has this one.",
        ) from error
    listener.set_inheritable(True)
    return listener


def _is_listened_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def room_for(connections: int) -> int:
    """Say how many connections this process can hold, after asking for as many files as it may.

    What comes beyond is answered; where no file is left, the system could only reset it.
    """
    files = Path("/proc/self/fd")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = sum(1 for _ in files.iterdir()) if files.is_dir() else _FILES_BESIDE
    beside = opened + _FILES_BESIDE
    wanted = connections + beside
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    if soft == resource.RLIM_INFINITY:
        return connections
    room = min(connections, max(_FEWEST_CONNECTIONS, soft - beside))
    if room < connections:
        _log.warning(
            "fewer connections than configured",
            extra={
                "connections": room,
                "configured": connections,
                "hint": f"Let the process open {wanted} files (ulimit -n, LimitNOFILE=), or lower "
                "serving.max_connections.",
            },
        )
    return room
