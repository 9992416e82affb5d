"""Requests while they are answered: cut into pieces, answered together, given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from contlearn.serving.http.problems import RequestProblem, too_late
from contlearn.serving.versions.version import Answer, Item, LoadedVersion

__all__ = ["Piece", "Request", "Result", "answer_pieces", "fail", "give_up_in_time", "may_begin"]

Result: TypeAlias = list[Answer] | Exception
LaneT = TypeVar("LaneT")


@dataclass(eq=False, slots=True)
class Request:
    """A request being answered: its slots, how many are empty, and who waits.

    Args:
        version: What answers.
        inputs: What is asked.
        costs: What each costs.
        future: Done with the last answer.
        allowed: The seconds that it may take.
        deadline: When they have passed.
        begin_before: When its first text must have been begun.
    """

    version: LoadedVersion
    inputs: Sequence[Item]
    costs: Sequence[float]
    future: asyncio.Future[None]
    allowed: float
    deadline: float
    begin_before: float
    begun: bool = False
    abandoned: bool = False
    # When its next piece would end under equal shares, in the queue's virtual time.
    virtual: float = 0.0
    answers: list[Answer | None] = field(init=False)
    left: int = field(init=False)
    # The cost of what is in no piece yet.
    rest: float = field(init=False)
    _order: list[int] = field(init=False)
    _taken: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.left = count = len(self.inputs)
        self.answers = [None] * count
        if count == 1:  # as most are
            self.rest, self._order = self.costs[0], [0]
            return
        self.rest = sum(self.costs)
        # Longest first, so that the last piece to finish is a short one.
        self._order = sorted(range(count), key=lambda place: -self.costs[place])

    @property
    def has_more(self) -> bool:
        """Say whether something is in no piece yet."""
        return self._taken < len(self._order)

    def cut(self, most_texts: int, most_cost: float) -> tuple[list[int], float]:
        """Cut the next piece: one text at least, and all that is left of what nobody waits for.

        Returns:
            The places of its texts, and its cost.
        """
        if len(self._order) == 1:
            self._taken, self.rest = 1, 0.0
            return self._order, self.costs[0]
        start, end, cost = self._taken, len(self._order), 0.0
        if not self.abandoned:
            last = min(start + most_texts, end)
            end, cost = start + 1, self.costs[self._order[start]]
            while end < last and cost + self.costs[self._order[end]] <= most_cost:
                cost += self.costs[self._order[end]]
                end += 1
        self._taken = end
        self.rest = self.rest - cost if self.has_more else 0.0
        return self._order[start:end], cost


@dataclass(eq=False, slots=True)
class Piece(Generic[LaneT]):
    """Some texts of one request, by their places in it, and the queue that they wait in."""

    lane: LaneT
    request: Request
    places: list[int]
    cost: float
    queued_at: float

    @property
    def inputs(self) -> list[Item]:
        """Give the texts."""
        return [self.request.inputs[place] for place in self.places]


def may_begin(request: Request, now: float, least_seconds: float = 0.0) -> bool:
    """Say whether a piece is still worth beginning, and note that its request was begun.

    Args:
        request: Whose piece it is.
        now: The time that deadlines go by.
        least_seconds: What the rest of the request takes at the very least.
    """
    if request.abandoned or now + least_seconds >= request.deadline:
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
            if not piece.request.abandoned:
                results |= answer_pieces([piece])
        return results
    found: dict[int, Result] = {}
    start = 0
    for piece in pieces:
        found[id(piece)] = answers[start : start + len(piece.places)]
        start += len(piece.places)
    return found


def fail(request: Request, error: Exception) -> None:
    """End a request with an error; its pieces that still wait are passed over."""
    request.abandoned = True
    if not request.future.done():
        request.future.set_exception(error)


async def give_up_in_time(
    request: Request,
    seconds: float,
    gone: Callable[[], asyncio.Future[None]] | None,
) -> None:
    """Give a request up when its time has passed or its client goes away."""
    if gone is None:
        await asyncio.sleep(seconds)
        fail(request, too_late(request.allowed))
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
        fail(request, too_late(request.allowed))
