"""Requests while they are answered: cut into pieces, answered together, given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from contlearn.serving.http.problems import RequestProblem, too_late
from contlearn.serving.versions.version import Answer, Item, LoadedVersion

__all__ = ["Piece", "Request", "Result", "answer_pieces", "fail", "give_up_in_time", "may_begin"]

Result: TypeAlias = list[Answer] | Exception
LaneT = TypeVar("LaneT")


@dataclass(eq=False, slots=True)
class Request:
    """A request being answered: its slots, how many are empty, and who waits."""

    version: LoadedVersion
    answers: list[Answer | None]
    left: int
    future: asyncio.Future[None]
    deadline: float
    begin_before: float
    begun: bool = False
    abandoned: bool = False


@dataclass(eq=False, slots=True)
class Piece(Generic[LaneT]):
    """Some texts of one request, with their places in it, and the queue that they wait in."""

    lane: LaneT
    request: Request
    places: list[int]
    inputs: list[Item]
    queued_at: float


def may_begin(request: Request, now: float) -> bool:
    """Say whether a request is still worth beginning, and note that it was begun."""
    if request.abandoned or now >= request.deadline:
        return False
    if not request.begun and now >= request.begin_before:
        return False
    request.begun = True
    return True


def answer_pieces(pieces: list[Piece[Any]]) -> dict[int, Result]:
    """Answer pieces together; when that fails, one by one, so that only the guilty one fails."""
    if not pieces:
        return {}
    version = pieces[0].request.version
    try:
        answers = version.predict([item for piece in pieces for item in piece.inputs])
    except Exception as error:
        if len(pieces) == 1:
            return {id(pieces[0]): error}
        results: dict[int, Result] = {}
        for piece in pieces:
            results |= answer_pieces([piece])
        return results
    found: dict[int, Result] = {}
    start = 0
    for piece in pieces:
        found[id(piece)] = answers[start : start + len(piece.inputs)]
        start += len(piece.inputs)
    return found


def fail(request: Request, error: Exception) -> None:
    """End a request with an error; its pieces that still wait are passed over."""
    request.abandoned = True
    if not request.future.done():
        request.future.set_exception(error)


async def give_up_in_time(
    request: Request,
    allowed: float,
    gone: Callable[[], asyncio.Future[None]] | None,
) -> None:
    """Give a request up when its deadline passes or its client goes away."""
    seconds = max(0.0, request.deadline - time.monotonic())
    if gone is None:
        await asyncio.sleep(seconds)
        fail(request, too_late(allowed))
        return
    waiter = gone()
    try:
        done, _ = await asyncio.wait(
            {waiter, request.future}, timeout=seconds, return_when="FIRST_COMPLETED"
        )
    finally:
        waiter.cancel()
    if request.future in done:
        return
    if waiter in done:
        fail(request, RequestProblem(499, "The client went away.", reason="cancelled"))
    else:
        fail(request, too_late(allowed))
