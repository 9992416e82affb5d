"""Messages between the server and its workers: lengths, JSON, and bytes. Never a pickle."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import orjson

__all__ = [
    "Channel",
    "Patience",
    "bound_waits",
    "receive",
    "receive_sockets",
    "send",
    "send_sockets",
]

# How long the JSON is, and how long the bytes that follow it.
_LENGTHS: Final = struct.Struct("<II")
_READ_BYTES: Final = 1 << 16
# Makes what is called, while the other side lets look after look pass; it raises to give up.
Patience: TypeAlias = Callable[[], Callable[[], None]]


def bound_waits(connection: socket.socket, seconds: float) -> None:
    """Let no call on a socket wait longer, so that whoever waits can look around."""
    bound = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)


def send(
    connection: socket.socket,
    message: object,
    patience: Patience | None = None,
    *,
    tail: bytes = b"",
) -> None:
    """Send one message, and bytes with it.

    Args:
        connection: To the other side.
        message: Anything that JSON can hold.
        patience: Asked while the other side does not read, if waits are bounded.
        tail: Further bytes.
    Raises:
        OSError: When the other side is gone.
    """
    data = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    whole = b"".join((_LENGTHS.pack(len(data), len(tail)), data, tail))
    sent, look = 0, None
    while sent < len(whole):
        try:
            sent += connection.send(memoryview(whole)[sent:] if sent else whole)
        except BlockingIOError:
            if patience is None:
                raise
            look = look or patience()
            look()


def receive(connection: socket.socket, patience: Patience | None = None) -> Any:
    """Wait for one message, reading nothing beyond it.

    Args:
        connection: To the other side.
        patience: Asked while nothing comes, if waits are bounded.
    Raises:
        ConnectionError: When the other side is gone.
    """
    size, more = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size, patience))
    return orjson.loads(memoryview(_exactly(connection, size + more, patience))[:size])


class Channel:
    """The receiving side of a connection on which nothing but messages comes.

    It reads as much as there is at once: every call that may wait gives Python's lock away.

    Args:
        connection: To the other side.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._kept = b""

    def receive(self, patience: Patience | None = None) -> tuple[Any, memoryview]:
        """Wait for one message and the bytes that came with it; see `receive`."""
        kept, needed = self._kept, _LENGTHS.size
        parts, have = [kept], len(kept)
        while True:
            if have >= needed:
                kept = parts[0] if len(parts) == 1 else b"".join(parts)
                size, more = _LENGTHS.unpack_from(kept)
                needed = _LENGTHS.size + size + more
                if have >= needed:
                    break
                parts = [kept]
            part = _some(self.connection, max(_READ_BYTES, needed - have), patience)
            if not part:
                raise ConnectionError("the other side is gone")
            parts.append(part)
            have += len(part)
        self._kept = kept[needed:]
        body = memoryview(kept)[_LENGTHS.size : needed]
        return orjson.loads(body[:size]), body[size:]


def send_sockets(connection: socket.socket, sockets: Sequence[socket.socket]) -> None:
    """Hand sockets over to the process at the other side, as unix(7) describes; each stays open.

    Raises:
        OSError: When the other side is gone.
    """
    socket.send_fds(connection, [b"+"], [each.fileno() for each in sockets])


def receive_sockets(connection: socket.socket, count: int) -> list[socket.socket]:
    """Wait for sockets.

    Raises:
        ConnectionError: When the other side is gone.
    """
    data, numbers, _, _ = socket.recv_fds(connection, 1, count)
    if not data or len(numbers) != count:
        raise ConnectionError("the other side is gone")
    return [socket.socket(fileno=number) for number in numbers]


def _exactly(connection: socket.socket, size: int, patience: Patience | None) -> bytes:
    parts, left = [], size
    while left:
        part = _some(connection, min(left, 1 << 20), patience)
        if not part:
            raise ConnectionError("the other side is gone")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _some(connection: socket.socket, size: int, patience: Patience | None) -> bytes:
    look = None
    while True:
        try:
            return connection.recv(size)
        except BlockingIOError:
            if patience is None:
                raise
            look = look or patience()
            look()
