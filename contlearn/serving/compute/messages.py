"""Messages between the server and its workers: a length, then JSON. Never a pickle."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

import orjson

__all__ = ["receive", "receive_sockets", "send", "send_sockets"]

_LENGTH: Final = struct.Struct("<I")


def send(connection: socket.socket, message: object) -> None:
    """Send one message; arrays become lists.

    Raises:
        OSError: When the other side is gone.
    """
    data = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> Any:
    """Wait for one message.

    Raises:
        ConnectionError: When the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return orjson.loads(_exactly(connection, length))


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


def _exactly(connection: socket.socket, size: int) -> bytes:
    first = connection.recv(size)
    if len(first) == size:
        return first
    parts, left = [first], size - len(first)
    while left:
        if not parts[-1]:
            raise ConnectionError("the other side is gone")
        parts.append(connection.recv(min(left, 1 << 20)))
        left -= len(parts[-1])
    return b"".join(parts)
