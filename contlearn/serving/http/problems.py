"""What can be wrong with a request, as the answer the client gets."""

from __future__ import annotations

import math

__all__ = [
    "RequestProblem",
    "crowded_out",
    "hopeless",
    "no_such_path",
    "not_ready",
    "overloaded",
    "too_late",
]


class RequestProblem(Exception):
    """A request that is not answered as asked; never leaves `serving`.

    Args:
        status: The HTTP status, 4xx or 503.
        what: One sentence on what is wrong.
        where: The field, header or path it is wrong at.
        hint: What the client can do.
        reason: The value of the label `reason` of contlearn_infer_rejected_total.
        retry_after_seconds: For the header Retry-After.
        allow: For the header Allow, with 405.
        challenge: Send WWW-Authenticate, with 401.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        reason: str = "invalid",
        retry_after_seconds: float | None = None,
        allow: str | None = None,
        challenge: bool = False,
    ) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.where = where
        self.hint = hint
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        self.allow = allow
        self.challenge = challenge

    def body(self, request_id: str) -> dict[str, str | None]:
        """Give the fields of the answer."""
        return {
            "error": self.what,
            "where": self.where,
            "hint": self.hint,
            "request_id": request_id,
        }

    def of_text(self) -> dict[str, str | None]:
        """Give what stands in the place of the answer to a text that alone cannot be used."""
        return {"error": self.what, "where": self.where, "hint": self.hint}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Give the headers the answer needs beyond the usual ones."""
        headers = []
        if self.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_seconds))))
        if self.allow is not None:
            headers.append((b"allow", self.allow.encode("ascii")))
        if self.challenge:
            headers.append((b"www-authenticate", b'Bearer realm="contlearn"'))
        return headers


def no_such_path() -> RequestProblem:
    """Say that there is nothing to ask at a path."""
    return RequestProblem(
        404,
        "There is no such path.",
        where="path",
        hint="GET /openapi.json lists what there is.",
    )


def not_ready(where: str, *, draining: bool = False) -> RequestProblem:
    """Say that no version can answer."""
    if draining:
        return RequestProblem(
            503,
            "The server is stopping.",
            where=where,
            hint="Send the request again; another server, or this one restarted, will answer.",
            reason="not_ready",
            retry_after_seconds=1,
        )
    return RequestProblem(
        503,
        "No version has been promoted yet, so there is nothing to answer with.",
        where=where,
        hint="Run `contlearn update`, or `contlearn promote VERSION`; the server takes it up "
        "by itself.",
        reason="not_ready",
        retry_after_seconds=5,
    )


def overloaded(waiting: int, seconds: float) -> RequestProblem:
    """Say that the queue is full."""
    return RequestProblem(
        503,
        f"The server is busy: {waiting} texts are waiting.",
        where="queue",
        hint="Send the request again after the time in Retry-After.",
        reason="queue_full",
        retry_after_seconds=seconds,
    )


def too_late(seconds: float) -> RequestProblem:
    """Say that a request waited longer than it may."""
    return _late(f"The request was not answered within its deadline of {seconds:g} s.", 1.0)


def hopeless(expected: float, seconds: float, waits: float) -> RequestProblem:
    """Say that a request would take longer than it may: by itself, or with what waits before it.

    Args:
        expected: Seconds until it would be answered.
        seconds: It may take so many.
        waits: Seconds after which another try may go better.
    """
    return _late(
        f"The request would take about {expected:.1f} s, more than its deadline of {seconds:g} s.",
        waits,
    )


def _late(what: str, waits: float) -> RequestProblem:
    return RequestProblem(
        503,
        what,
        where="queue",
        hint="Send fewer texts at once, or allow more time with serving.deadline_seconds.",
        reason="timeout",
        retry_after_seconds=waits,
    )


def crowded_out(waits: float) -> RequestProblem:
    """Say that a request would make those late that were let in before it."""
    return RequestProblem(
        503,
        "The server is busy with large requests, and this one would make them late.",
        where="queue",
        hint="Send the request again after the time in Retry-After, or send fewer texts at once.",
        reason="queue_full",
        retry_after_seconds=waits,
    )
