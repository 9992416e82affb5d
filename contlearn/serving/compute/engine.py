"""Answering off the event loop: bounded queues, a pool of threads, a fair share for every model.

The model runs in native code without Python's lock, so threads use all cores. A request is cut
into pieces of texts of like length; a worker takes what waits, up to its batch, and never waits
for more to come. Everything that is counted is counted on the loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from contlearn.serving.compute.pieces import (
    Piece,
    Request,
    Result,
    answer_pieces,
    fail,
    give_up_in_time,
    may_begin,
)
from contlearn.serving.http.problems import RequestProblem, overloaded, too_late
from contlearn.serving.versions.version import Answer, Item, LoadedVersion
from contlearn.telemetry.server_metrics import ServerMetrics

__all__ = ["Engine", "EngineLimits", "Lane", "Totals", "VersionRetired"]

_log = logging.getLogger("contlearn.serving")
# After this long a request is watched for its deadline and for a client that went away; shorter
# ones do not pay for it.
_WATCH_SECONDS: Final = 0.1
_PACE_SECONDS: Final = 0.2
_MOST_SLOWER: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How many workers, how many texts at once, how much may wait for how long.

    `max_wait_seconds` bounds the time until a request's first text is begun. What would wait
    longer, as measured from the pace of the last seconds, is turned away at once; what did wait
    longer all the same is given up. So whatever is answered was answered soon.
    """

    workers: int = 2
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
    pieces: deque[Piece[Lane]] = field(default_factory=deque, init=False)
    # Seconds of computing this lane has had, as fair sharing counts them.
    used: float = field(default=0.0, init=False)
    _waiting: int = field(default=0, init=False)
    # Seconds one text takes in the whole pool, smoothed; a guess until something was measured.
    _pace: float = field(default=0.0, init=False)
    # Since when the queue has not been empty, and how many texts were answered since.
    _busy: tuple[float, int] = field(default=(0.0, 0), init=False)

    @property
    def waiting(self) -> int:
        """Give the texts that wait or are being answered."""
        return self._waiting

    def expected_wait(self) -> float:
        """Give the seconds a new text would wait, from the pace of the last seconds."""
        return self._waiting * self._pace

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
            lengths: The length of each, in any unit; texts of like length run together.
            deadline_seconds: At most this long; the limit's own if left out.
            gone: Starts to wait for the client to go away.
        Raises:
            RequestProblem: When too much waits, or the deadline passes.
            VersionRetired: When another version has taken its place in this moment.
        """
        limits, count = self.limits, len(inputs)
        if not count:
            return []
        expected = self.expected_wait()
        if self._waiting and (
            self._waiting + count > limits.max_queue_texts or expected > limits.max_wait_seconds
        ):
            raise overloaded(self._waiting, expected)
        loop = asyncio.get_running_loop()
        allowed = min(deadline_seconds or limits.deadline_seconds, limits.deadline_seconds)
        now = time.monotonic()
        request = Request(
            version,
            [None] * count,
            count,
            loop.create_future(),
            now + allowed,
            now + limits.max_wait_seconds,
        )
        if not version.take():
            raise VersionRetired
        if self._waiting == 0:
            self._busy = (now, 0)
        self._waiting += count
        if self.metrics is not None:
            self.metrics.queue_depth.set(self._waiting)
        self.engine.put(self._cut(request, inputs, lengths, now))
        watch: asyncio.Task[None] | None = None

        def start_watch() -> None:
            nonlocal watch
            watch = loop.create_task(give_up_in_time(request, allowed, gone))

        timer = loop.call_later(min(_WATCH_SECONDS, allowed), start_watch)
        try:
            await request.future
        except BaseException:
            request.abandoned = True
            raise
        finally:
            timer.cancel()
            if watch is not None:
                watch.cancel()
        return [answer for answer in request.answers if answer is not None]

    def _cut(
        self, request: Request, inputs: Sequence[Item], lengths: Sequence[int], now: float
    ) -> list[Piece[Lane]]:
        if len(inputs) == 1:
            return [Piece(self, request, [0], [inputs[0]], now)]
        # Longest first, so that the last piece to finish is a short one.
        order = sorted(range(len(inputs)), key=lambda place: -lengths[place])
        size = max(1, min(self.limits.batch_texts, -(-len(order) // self.engine.workers)))
        pieces = []
        for start in range(0, len(order), size):
            places = order[start : start + size]
            pieces.append(Piece(self, request, places, [inputs[p] for p in places], now))
        return pieces

    def deliver(
        self, batch: list[Piece[Lane]], results: dict[int, Result], begun: float, done: float
    ) -> None:
        """Hand out what a worker found; on the loop's thread."""
        totals, texts, metrics = self.totals, 0, self.metrics
        for piece in batch:
            request, count = piece.request, len(piece.inputs)
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
                for place, answer in zip(piece.places, result, strict=True):
                    request.answers[place] = answer
                if request.left == 0 and not request.future.done():
                    request.future.set_result(None)
        if texts:
            self._measure(texts, done - begun)
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
            return too_late(self.limits.deadline_seconds)
        return overloaded(self._waiting, self.expected_wait())

    def _measure(self, texts: int, seconds: float) -> None:
        """Learn the pace: what really came out while texts waited, not what one run takes.

        On a busy machine the two differ by a factor: runs wait for a processor, and for each other.
        """
        if not self._pace:
            self._pace = seconds / texts / self.engine.workers
        since, answered = self._busy
        answered += texts
        elapsed = time.monotonic() - since
        if elapsed >= _PACE_SECONDS:
            # A pause of the whole machine is no pace: what it adds is bounded, so that nobody is
            # turned away for it afterwards.
            seen = min(elapsed / answered, _MOST_SLOWER * self._pace)
            self._pace += (seen - self._pace) * 0.5
            since, answered = time.monotonic(), 0
        self._busy = (since, answered)


@dataclass(eq=False)
class Engine:
    """A pool of threads that serves lanes.

    Among lanes that wait, the one that has had the least computing is next, so that a model that
    is asked much cannot keep another one from answering.

    Source: start-time fair queueing (Goyal, Vin and Cheng, 1996), with equal weights.

    Args:
        workers: How many threads.
    """

    workers: int = 2
    lanes: list[Lane] = field(default_factory=list, init=False)
    _ready: threading.Condition = field(default_factory=threading.Condition, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)
    _idle: int = field(default=0, init=False)
    # How far the lane being served has come; a lane that was empty continues from here.
    _clock: float = field(default=0.0, init=False)

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
        for number in range(self.workers):
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

    def put(self, pieces: Sequence[Piece[Lane]]) -> None:
        """Queue pieces of one lane."""
        lane = pieces[0].lane
        with self._ready:
            if not lane.pieces:
                lane.used = max(lane.used, self._clock)
            lane.pieces.extend(pieces)
            if self._idle:
                self._ready.notify(min(self._idle, len(pieces)))

    def _next(self) -> list[Piece[Lane]]:
        """Wait for pieces of one lane and one version; nothing when the engine stops."""
        with self._ready:
            while True:
                waiting = [lane for lane in self.lanes if lane.pieces]
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
                self._clock = max(self._clock, lane.used)
            batch = [lane.pieces.popleft()]
            texts, version = len(batch[0].inputs), batch[0].request.version
            while lane.pieces and lane.pieces[0].request.version is version:
                texts += len(lane.pieces[0].inputs)
                if texts > lane.limits.batch_texts:
                    break
                batch.append(lane.pieces.popleft())
            return batch

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _answer(self, batch: list[Piece[Lane]]) -> None:
        begun = time.monotonic()
        live = [piece for piece in batch if may_begin(piece.request, begun)]
        results = answer_pieces(live)
        done = time.monotonic()
        lane = batch[0].lane
        with self._ready:
            lane.used += done - begun
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(lane.deliver, batch, results, begun, done)
        except RuntimeError:  # the loop closed in between: nobody waits any more
            return
