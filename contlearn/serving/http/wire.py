"""Reading bodies within bounds, and writing answers: the ASGI messages themselves."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from contlearn.serving.http.problems import RequestProblem

__all__ = ["header", "parse_json", "read_body", "send_bytes", "send_json"]

_JSON = (b"content-type", b"application/json")


def header(scope: Scope, name: bytes) -> str | None:
    """Give the first header of this name (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """Read the whole body, unpacked, never holding more than allowed.

    Raises:
        RequestProblem: 413 when it is too large, 408 when it takes too long, 415 when it is
            packed in a way that is not known, 400 when the client stopped in the middle.
    """
    stated = header(scope, b"content-length")
    if stated is not None and stated.isdigit() and int(stated) > max_bytes:
        raise _too_large(max_bytes)
    message = await _next(receive, seconds if stated != "0" else None)
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _rest(body, receive, max_bytes, seconds)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    packed = header(scope, b"content-encoding")
    if packed is None or packed == "identity":
        return body
    return _unpack(body, packed.strip().lower(), max_bytes)


async def _next(receive: Receive, seconds: float | None) -> Mapping[str, Any]:
    message: Mapping[str, Any] = (
        await receive() if seconds is None else await _within(receive, seconds)
    )
    if message["type"] == "http.disconnect":
        raise RequestProblem(
            400, "The client went away before the body was complete.", reason="cancelled"
        )
    return message


async def _within(receive: Receive, seconds: float) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        raise RequestProblem(
            408,
            f"The body did not arrive within {seconds:g} s.",
            where="body",
            hint="Send it in one go.",
        ) from None


async def _rest(begun: bytes, receive: Receive, max_bytes: int, seconds: float) -> bytes:
    parts, size = [begun], len(begun)
    until = asyncio.get_running_loop().time() + seconds
    more = True
    while more:
        left = max(0.0, until - asyncio.get_running_loop().time())
        message = await _next(receive, left)
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _unpack(body: bytes, packing: str, max_bytes: int) -> bytes:
    if packing not in ("gzip", "deflate"):
        raise RequestProblem(
            415,
            f"The content encoding {packing!r} is not known.",
            where="header content-encoding",
            hint="Send the body plain, or packed with gzip or deflate.",
        )
    try:
        plain = (_gunzip if packing == "gzip" else _inflate)(body, max_bytes + 1)
    except EOFError as error:
        raise RequestProblem(
            400, "The packed body is cut short.", where="body", hint="Send all of it."
        ) from error
    except (OSError, zlib.error) as error:
        raise RequestProblem(
            400, f"The packed body is damaged: {error}.", where="body", hint="Pack it again."
        ) from error
    if len(plain) > max_bytes:
        raise _too_large(max_bytes)
    return plain


def _gunzip(body: bytes, most: int) -> bytes:
    """Unpack at most so many bytes. Members may follow each other (RFC 1952, 2.2): all count."""
    if not body:
        raise EOFError
    return gzip.GzipFile(fileobj=io.BytesIO(body)).read(most)


def _inflate(body: bytes, most: int) -> bytes:
    """Unpack at most so many bytes of one zlib stream (RFC 1950)."""
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(body, most)
    if len(plain) < most and not unpacker.eof:
        raise EOFError
    if unpacker.unused_data:
        raise zlib.error("something follows its end")
    return plain


def _too_large(max_bytes: int) -> RequestProblem:
    return RequestProblem(
        413,
        f"The body is larger than {max_bytes} bytes.",
        where="body",
        hint="Send fewer texts at once, or raise serving.max_body_bytes.",
        reason="too_large",
    )


def parse_json(body: bytes | memoryview, *, where: str = "body") -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RequestProblem: When it is not JSON, or not an object.
    """
    try:
        value = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise RequestProblem(
            400,
            f"The body is not JSON: {error}.",
            where=where,
            hint="Send a JSON object in UTF-8.",
        ) from error
    if not isinstance(value, dict):
        raise RequestProblem(
            400, "The body is JSON but not an object.", where=where, hint='Begin with "{".'
        )
    return value


async def send_json(
    send: Send,
    value: object,
    *,
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] | list[tuple[bytes, bytes]] = (),
) -> None:
    """Answer with JSON."""
    body = orjson.dumps(value)
    await send_bytes(send, body, status=status, headers=[_JSON, *headers])


async def send_bytes(
    send: Send, body: bytes, *, status: int = 200, headers: list[tuple[bytes, bytes]]
) -> None:
    """Answer with bytes."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})
