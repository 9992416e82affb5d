"""The requests of one model in the order of a fair share: each gets as much computing as another.

A request of a thousand texts is taken piece by piece, and whoever asks for one text meanwhile
stands before the next piece. Costs are in any unit; see `pace`.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Final, Generic, NamedTuple, TypeVar

from contlearn.serving.compute.pieces import Piece

__all__ = ["FairQueue", "Outlook"]

LaneT = TypeVar("LaneT")
# Up to so many waiting requests are looked at one by one for a request of one piece.
_LOOKED_AT: Final = 128


class Outlook(NamedTuple):
    """What a new request would have to wait for, as costs.

    `before` is answered before its first text is begun, `done` until its last one is answered;
    `slack` is what the request that could wait least has left if the new one comes.
    """

    before: float
    done: float
    slack: float


@dataclass(eq=False)
class FairQueue(Generic[LaneT]):
    """Waiting requests; the one whose next piece would end first under equal shares is next.

    Not safe for threads: the engine's lock guards it.

    Source: weighted fair queueing (Demers, Keshav and Shenker, 1989), with equal weights. Virtual
    time goes by what was taken, divided among those who waited.
    """

    # What the next pieces of all that wait hold, and what was taken and is not answered yet.
    texts: int = field(default=0, init=False)
    cost: float = field(default=0.0, init=False)
    out_texts: int = field(default=0, init=False)
    out_cost: float = field(default=0.0, init=False)
    _heap: list[tuple[float, int, Piece[LaneT]]] = field(default_factory=list, init=False)
    _numbers: count[int] = field(default_factory=count, init=False)
    _virtual: float = field(default=0.0, init=False)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> Piece[LaneT]:
        """Give the piece that is next."""
        return self._heap[0][2]

    def put(self, piece: Piece[LaneT], *, is_new: bool = True) -> None:
        """Let the next piece of a request wait."""
        request = piece.request
        request.virtual = (self._virtual if is_new else request.virtual) + piece.cost
        heapq.heappush(self._heap, (request.virtual, next(self._numbers), piece))
        self.texts += len(piece.places)
        self.cost += piece.cost

    def take(self) -> Piece[LaneT]:
        """Take the piece that is next."""
        share = len(self._heap)
        _, _, piece = heapq.heappop(self._heap)
        self._virtual += piece.cost / share
        self.texts -= len(piece.places)
        self.cost = self.cost - piece.cost if self._heap else 0.0
        self.out_texts += len(piece.places)
        self.out_cost += piece.cost
        return piece

    def answered(self, pieces: Sequence[Piece[LaneT]]) -> None:
        """Note that pieces are answered, or given up."""
        self.out_texts -= sum(len(piece.places) for piece in pieces)
        left = self.out_cost - sum(piece.cost for piece in pieces)
        self.out_cost = left if self.out_texts else 0.0

    def outlook(self, total: float, piece: float, *, now: float, pace: float) -> Outlook:
        """Foresee how a new request would fare, and whom it would make late.

        Args:
            total: Its cost.
            piece: The cost of its first piece.
            now: The time that deadlines go by.
            pace: Seconds a unit of cost.
        """
        if total <= piece and len(self._heap) > _LOOKED_AT:
            everything = self.out_cost + self.cost
            return Outlook(everything, everything + total, math.inf)
        bound = self._virtual + piece
        before = sum(each.cost for finish, _, each in self._heap if finish <= bound)
        rests = sorted(each.cost + each.request.rest for _, _, each in self._heap)
        sums = [0.0, *accumulate(rests)]

        def until(own: float) -> float:
            """Give what is taken of the others until a request of this cost has its own."""
            smaller = bisect_right(rests, own)
            return sums[smaller] + own * (len(rests) - smaller)

        slack = math.inf
        if total > piece and pace:
            for _, _, each in self._heap:
                rest = each.cost + each.request.rest
                if each.request.rest:
                    needs = self.out_cost + until(rest) + min(total, rest)
                    slack = min(slack, (each.request.deadline - now) / pace - needs)
        return Outlook(self.out_cost + before, self.out_cost + until(total) + total, slack)
