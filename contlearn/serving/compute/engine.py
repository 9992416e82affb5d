"""Answering off the event loop: bounded queues, a pool of threads, a fair share for every model.

The model runs in native code without Python's lock, so threads use all cores. A request is taken
in pieces of texts of like length, in turns with the others (see `sharing`); a worker takes what
waits, up to its batch, and never waits for more to come. Everything that is counted is counted on
the loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from contlearn.serving.compute.pace import Pace, Reading
from contlearn.serving.compute.pieces import (
    Piece,
    Request,
    Result,
    answer_pieces,
    fail,
    give_up_in_time,
    may_begin,
)
from contlearn.serving.compute.sharing import FairQueue
from contlearn.serving.compute.watching import WorkerSilent
from contlearn.serving.http.problems import (
    RequestProblem,
    crowded_out,
    hopeless,
    overloaded,
    too_late,
)
from contlearn.serving.versions.version import Answer, Item, LoadedVersion
from contlearn.telemetry.server_metrics import ServerMetrics

__all__ = ["Engine", "EngineLimits", "Lane", "Totals", "VersionRetired"]

_log = logging.getLogger("contlearn.serving")
# After this long a request is watched for its deadline and for a client that went away; shorter
# ones do not pay for it.
_WATCH_SECONDS: Final = 0.1
# Who asks for one text waits for the piece that was begun: a piece is cut to take no longer.
_PIECE_SECONDS: Final = 0.1
# When nothing that was begun is answered for so long, the workers are ill.
_IN_VAIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How many workers, how many texts at once, how much may wait for how long.

    `max_wait_seconds` bounds the time until a request's first text is begun. What would wait
    longer, as measured from the pace of the last seconds, is turned away at once; what did wait
    longer all the same is given up. What would not be done within `deadline_seconds`, alone or
    sharing with the others, is turned away at once too. So whatever is answered was answered soon.

    `ahead` is how many runs a worker is handed at a time: with 2 the next one lies ready in its
    process when it is done with one. Threads of the server itself take one.
    """

    workers: int = 2
    ahead: int = 1
    batch_texts: int = 8
    max_queue_texts: int = 2_000
    max_wait_seconds: float = 1.0
    deadline_seconds: float = 10.0


class VersionRetired(Exception):
    """The version was let go between being chosen and being asked; choose again."""


@dataclass(slots=True)
class Totals:
    """What a lane did since it started; `last` is seconds since the epoch."""

    texts: int = 0
    runs: int = 0
    failed: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    last: float = 0.0


@dataclass(eq=False)
class Lane:
    """The queue of one model.

    Args:
        engine: Runs what waits.
        limits: See `EngineLimits`.
        metrics: Where waiting, computing and turning away are counted; None counts nothing.
        is_background: Served only while no other lane waits: for answers that nobody waits for.
    """

    engine: Engine
    limits: EngineLimits
    metrics: ServerMetrics | None
    is_background: bool = False
    totals: Totals = field(default_factory=Totals, init=False)
    queue: FairQueue[Lane] = field(default_factory=FairQueue, init=False)
    # Seconds of computing this lane has had, as fair sharing counts them.
    used: float = field(default=0.0, init=False)
    pace: Pace = field(init=False)
    _reading: Reading = field(default_factory=Reading, init=False)
    _waiting: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(self.engine.runs)

    @property
    def waiting(self) -> int:
        """Give the texts that wait or are being answered."""
        return self._waiting

    async def compute(
        self,
        version: LoadedVersion,
        inputs: Sequence[Item],
        *,
        lengths: Sequence[int],
        deadline_seconds: float | None = None,
        gone: Callable[[], asyncio.Future[None]] | None = None,
    ) -> list[Answer]:
        """Answer all inputs of one request with one version.

        Args:
            version: Taken for the time of the request.
            inputs: The texts.
            lengths: The characters of each, or its tokens where ids are asked.
            deadline_seconds: At most this long; the limit's own if left out.
            gone: Starts to wait for the client to go away.
        Raises:
            RequestProblem: When too much waits, or the deadline passes or would.
            VersionRetired: When another version has taken its place in this moment.
        """
        if not inputs:
            return []
        loop = asyncio.get_running_loop()
        limits, now = self.limits, self.engine.clock()
        allowed = min(deadline_seconds or limits.deadline_seconds, limits.deadline_seconds)
        if self._waiting == 0:
            self.pace.begin(now)
        most = getattr(version.predictor, "max_tokens", None)
        request = Request(
            version,
            inputs,
            self._reading.costs(inputs, lengths, most),
            loop.create_future(),
            allowed,
            now + allowed,
            now + limits.max_wait_seconds,
        )
        self.engine.put(self, request, now)
        self._waiting += len(inputs)
        if self.metrics is not None:
            self.metrics.queue_depth.set(self._waiting)
        watch: asyncio.Task[None] | None = None
        unwatched = min(_WATCH_SECONDS, allowed)

        def start_watch() -> None:
            nonlocal watch
            watch = loop.create_task(give_up_in_time(request, allowed - unwatched, gone))

        timer = loop.call_later(unwatched, start_watch)
        try:
            await request.future
        except BaseException:
            request.abandoned = True
            raise
        finally:
            timer.cancel()
            if watch is not None:
                watch.cancel()
        found = [answer for answer in request.answers if answer is not None]
        for item, length, answer in zip(inputs, lengths, found, strict=True):
            self._reading.learn(item, length, answer)
        return found

    def cut(self, request: Request, now: float) -> Piece[Lane]:
        """Cut the next piece of a request: no more than a worker is given at once."""
        limits, count = self.limits, len(request.inputs)
        texts = min(limits.batch_texts, -(-count // limits.workers))
        places, cost = request.cut(texts, self.most_cost if count > 1 else math.inf)
        return Piece(self, request, places, cost, now)

    @property
    def most_cost(self) -> float:
        """Give the cost that one run may have, so that nobody waits long for it."""
        pace = self.pace.seconds
        return _PIECE_SECONDS / (pace * self.limits.workers) if pace else math.inf

    def check(self, request: Request, piece: Piece[Lane], now: float) -> None:
        """Let a request in, or turn it away; its first piece was cut, and is not queued yet.

        Raises:
            RequestProblem: When it would wait too long, or it or another would be late.
        """
        limits, queue, pace, count = self.limits, self.queue, self.pace.seconds, len(request.inputs)
        total, is_large = piece.cost + request.rest, request.has_more
        # What was taken of large requests, not all of them, stands in the way of a small one.
        texts = self._waiting if is_large else queue.texts + queue.out_texts
        if self._waiting and texts + count > limits.max_queue_texts:
            raise overloaded(self._waiting, (queue.out_cost + queue.cost) * pace)
        soon = min(limits.max_wait_seconds, request.allowed)
        if not is_large and (queue.out_cost + queue.cost + total) * pace <= soon:
            return
        look = queue.outlook(total, piece.cost, now=now, pace=pace)
        if self._waiting and look.before * pace > limits.max_wait_seconds:
            raise overloaded(self._waiting, look.before * pace)
        if look.done * pace > request.allowed:
            raise hopeless(look.done * pace, request.allowed, (look.done - total) * pace)
        if look.slack < 0:
            raise crowded_out(-look.slack * pace)

    def least_seconds(self, request: Request) -> float:
        """Give what the rest of a request takes if it is alone and twice as quick as expected."""
        return 0.5 * request.rest * self.pace.seconds

    def deliver(
        self, batch: list[Piece[Lane]], results: dict[int, Result], begun: float, done: float
    ) -> None:
        """Hand out what a worker found; on the loop's thread."""
        totals, texts, cost, metrics = self.totals, 0, 0.0, self.metrics
        for piece in batch:
            request, count = piece.request, len(piece.places)
            self._waiting -= count
            request.left -= count
            if request.left == 0:
                request.version.give_back()
            if metrics is not None:
                metrics.queue_seconds.observe(begun - piece.queued_at)
            totals.queue_seconds += (begun - piece.queued_at) * count
            result = results.get(id(piece))
            if result is None:
                fail(request, self._given_up(request, begun))
            elif isinstance(result, Exception):
                fail(request, result)
                totals.failed += count
            else:
                texts += count
                cost += piece.cost
                for place, answer in zip(piece.places, result, strict=True):
                    request.answers[place] = answer
                if request.left == 0 and not request.future.done():
                    request.future.set_result(None)
        if texts:
            self.pace.learn(cost, done - begun, self.engine.clock(), is_last=self._waiting == 0)
            totals.texts += texts
            totals.runs += 1
            totals.compute_seconds += done - begun
            totals.last = time.time()
            if metrics is not None:
                metrics.compute_seconds.observe(done - begun)
                metrics.batch_rows.observe(texts)
        if metrics is not None:
            metrics.queue_depth.set(self._waiting)

    def _given_up(self, request: Request, begun: float) -> RequestProblem:
        if begun >= request.deadline:
            return too_late(request.allowed)
        if request.begun:
            taken = request.allowed - (request.deadline - begun)
            return hopeless(taken + request.rest * self.pace.seconds, request.allowed, 1.0)
        return overloaded(self._waiting, self.queue.cost * self.pace.seconds)


@dataclass(eq=False)
class Engine:
    """A pool of threads that serves lanes.

    Among lanes that wait, the one that has had the least computing is next, so that a model that
    is asked much cannot keep another one from answering; within a lane requests share likewise.

    Source: start-time fair queueing (Goyal, Vin and Cheng, 1996), with equal weights.

    Args:
        runs: How many threads, each with one run at a time.
        clock: Gives seconds that only go forward.
    """

    runs: int = 2
    clock: Callable[[], float] = time.monotonic
    lanes: list[Lane] = field(default_factory=list, init=False)
    _ready: threading.Condition = field(default_factory=threading.Condition, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)
    _idle: int = field(default=0, init=False)
    # How far the lane being served has come; a lane that was empty continues from here.
    _progress: float = field(default=0.0, init=False)
    _running: int = field(default=0, init=False)
    # Since when nothing of what was begun was answered.
    _in_vain_since: float | None = field(default=None, init=False)
    _was_stuck: bool = field(default=False, init=False)

    def lane(
        self,
        limits: EngineLimits,
        metrics: ServerMetrics | None = None,
        *,
        is_background: bool = False,
    ) -> Lane:
        """Make a lane; before `start`."""
        lane = Lane(self, limits, metrics, is_background)
        self.lanes.append(lane)
        return lane

    def start(self) -> None:
        """Start the workers; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(self.runs):
            thread = threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop the workers after what they are doing."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(5.0)

    @property
    def silent_seconds(self) -> float:
        """Give for how long workers have been computing without any answer."""
        since = self._in_vain_since
        return self.clock() - since if self._running and since is not None else 0.0

    @property
    def is_stuck(self) -> bool:
        """Say whether they have for so long that something must be wrong."""
        return self.silent_seconds > _IN_VAIN_SECONDS

    def look(self) -> None:
        """Log once when the workers are stuck, and once when they answer again."""
        is_stuck = self.is_stuck
        if is_stuck and not self._was_stuck:
            _log.error("no worker answers", extra={"seconds": round(self.silent_seconds, 1)})
        elif self._was_stuck and not is_stuck:
            _log.warning("workers answer again")
        self._was_stuck = is_stuck

    def put(self, lane: Lane, request: Request, now: float) -> None:
        """Let a request wait for its first piece to be taken.

        Raises:
            RequestProblem: When it is turned away.
            VersionRetired: When its version was let go.
        """
        with self._ready:
            piece = lane.cut(request, now)
            lane.check(request, piece, now)
            if not request.version.take():
                raise VersionRetired
            if not lane.queue:
                lane.used = max(lane.used, self._progress)
            self._queue(piece, is_new=True)

    def _queue(self, piece: Piece[Lane], *, is_new: bool) -> None:
        piece.lane.queue.put(piece, is_new=is_new)
        if self._idle:
            self._ready.notify()

    def _next(self) -> list[Piece[Lane]]:
        """Wait for pieces of one lane and one version; nothing when the engine stops."""
        with self._ready:
            while True:
                waiting = [lane for lane in self.lanes if lane.queue]
                if waiting:
                    break
                if self._stopped:
                    return []
                self._idle += 1
                self._ready.wait()
                self._idle -= 1
            lane = waiting[0]
            if len(waiting) > 1:
                lane = min(waiting, key=lambda lane: (lane.is_background, lane.used))
            if not lane.is_background:
                self._progress = max(self._progress, lane.used)
            batch = [self._take(lane)]
            texts, cost, version = len(batch[0].places), batch[0].cost, batch[0].request.version
            # What an idle worker could take is left to it.
            while lane.queue and not self._idle and lane.queue.first.request.version is version:
                texts += len(lane.queue.first.places)
                cost += lane.queue.first.cost
                if texts > lane.limits.batch_texts or cost > lane.most_cost:
                    break
                batch.append(self._take(lane))
            self._running += 1
            if self._in_vain_since is None:
                self._in_vain_since = self.clock()
            return batch

    def _take(self, lane: Lane) -> Piece[Lane]:
        """Take a piece, and let the next one of its request wait in its place."""
        piece = lane.queue.take()
        if piece.request.has_more:
            self._queue(lane.cut(piece.request, self.clock()), is_new=False)
        return piece

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _answer(self, batch: list[Piece[Lane]]) -> None:
        begun, lane = self.clock(), batch[0].lane
        live = [
            piece
            for piece in batch
            if may_begin(piece.request, begun, lane.least_seconds(piece.request))
        ]
        results = answer_pieces(live)
        done = self.clock()
        with self._ready:
            lane.used += done - begun
            lane.queue.answered(batch)
            self._running -= 1
            if not any(isinstance(result, WorkerSilent) for result in results.values()):
                self._in_vain_since = done if self._running else None
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(lane.deliver, batch, results, begun, done)
        except RuntimeError:  # the loop closed in between: nobody waits any more
            return
