"""When to ask again, and after how long."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from contlearn.errors import ServingError

if TYPE_CHECKING:
    import httpx

__all__ = ["Attempts", "ClientError", "Retries", "problem_of"]

# What passes: too much at once, starting, stopping, a proxy that lost its server. Everything else
# would be refused again.
_PASSING: Final = frozenset({429, 502, 503, 504})


class ClientError(ServingError):
    """The server refused, or could not be reached.

    Args:
        what: What it said.
        status: The HTTP status; None when nobody answered.
        request_id: Under which the server's log tells more.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int | None,
        where: str | None = None,
        hint: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.status = status
        self.request_id = request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often to ask again.

    Asking again is safe: a prediction changes nothing, and the same feedback counts once. The wait
    is what the server asks for in Retry-After, with a little chance, so that clients that were
    turned away together do not come back together; else it doubles, with full chance.

    Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 5
    first_seconds: float = 0.1
    most_seconds: float = 5.0

    def begin(self, timeout_seconds: float) -> Attempts:
        """Begin one call."""
        return Attempts(self, time.monotonic() + timeout_seconds)


@dataclass(slots=True)
class Attempts:
    """The attempts of one call; all carry one request id."""

    retries: Retries
    until: float
    made: int = 1
    headers: dict[str, str] = field(default_factory=lambda: {"x-request-id": uuid.uuid4().hex})

    def left(self) -> float:
        """Give the seconds that are left."""
        return max(0.05, self.until - time.monotonic())

    def delay(self, response: httpx.Response | None) -> float | None:
        """Say how long to wait before the next attempt; None when there should be none."""
        if response is not None and response.status_code not in _PASSING:
            return None
        if self.made >= self.retries.attempts:
            return None
        asked = None if response is None else _seconds(response.headers.get("retry-after"))
        if asked is None:
            longest = self.retries.first_seconds * 2 ** (self.made - 1)
            seconds = random.uniform(0, min(longest, self.retries.most_seconds))  # not a secret
        else:
            seconds = min(asked, self.retries.most_seconds) * random.uniform(
                1.0, 1.25
            )  # not a secret
        self.made += 1
        return seconds if time.monotonic() + seconds < self.until else None


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:  # a date: rare, and not worth a parser
        return None


def problem_of(response: httpx.Response | None, error: Exception | None) -> ClientError:
    """Make the error that a caller sees out of what the server said last."""
    if response is None:
        return ClientError(
            f"The server cannot be reached: {error}.",
            status=None,
            hint="Check the address, and that `contlearn serve` runs.",
        )
    try:
        body: Any = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    return ClientError(
        str(body.get("error") or f"The server answered {response.status_code}."),
        status=response.status_code,
        where=body.get("where"),
        hint=body.get("hint"),
        request_id=body.get("request_id"),
    )
