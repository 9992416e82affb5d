"""Answering off the event loop: a bounded queue, a pool of threads, texts of like length together.

The model runs in native code without Python's lock, so threads use all cores. A request is cut
into pieces of texts of like length; a worker takes what waits, up to its batch, and never waits
for more to come. Everything that is counted is counted on the loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from contlearn.serving.problems import RequestProblem, overloaded, too_late
from contlearn.serving.version import Answer, LoadedVersion
from contlearn.telemetry.server_metrics import ServerMetrics
from contlearn.types import Inputs

__all__ = ["Engine", "EngineLimits", "Totals"]

_log = logging.getLogger("contlearn.serving")
# After this long a request is watched for its deadline and for a client that went away; shorter
# ones do not pay for it.
_WATCH_SECONDS: Final = 0.1
_PACE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How many workers, how many texts at once, how much may wait for how long.

    `max_wait_seconds` bounds the time a new text would wait, as measured from the pace of the
    last seconds: above it, requests are turned away at once, and what is admitted stays quick.
    """

    workers: int = 2
    batch_texts: int = 8
    max_queue_texts: int = 2_000
    max_wait_seconds: float = 1.0
    deadline_seconds: float = 10.0


@dataclass(eq=False, slots=True)
class _Request:
    """A request being answered: its slots, how many are empty, and who waits."""

    version: LoadedVersion
    answers: list[Answer | None]
    left: int
    future: asyncio.Future[None]
    deadline: float
    abandoned: bool = False


@dataclass(eq=False, slots=True)
class _Piece:
    """Some texts of one request, with their places in it."""

    request: _Request
    places: list[int]
    inputs: list[Inputs]
    queued_at: float


@dataclass(slots=True)
class Totals:
    """What the engine did since it started; `last` is seconds since the epoch."""

    texts: int = 0
    runs: int = 0
    failed: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    last: float = 0.0


@dataclass
class Engine:
    """Runs predictions in a pool of threads.

    Args:
        limits: See `EngineLimits`.
        metrics: Where waiting, computing and turning away are counted.
    """

    limits: EngineLimits
    metrics: ServerMetrics
    totals: Totals = field(default_factory=Totals, init=False)
    _pieces: queue.SimpleQueue[_Piece | None] = field(default_factory=queue.SimpleQueue, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _waiting: int = field(default=0, init=False)
    # Seconds one text takes in the whole pool, smoothed; a guess until something was measured.
    _pace: float = field(default=0.0, init=False)
    # Since when the queue has not been empty, and how many texts were answered since.
    _busy: tuple[float, int] = field(default=(0.0, 0), init=False)

    def start(self) -> None:
        """Start the workers; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(self.limits.workers):
            thread = threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let the workers end after what is queued."""
        for _ in self._threads:
            self._pieces.put(None)
        for thread in self._threads:
            thread.join(self.limits.deadline_seconds)
        self._threads.clear()

    @property
    def waiting(self) -> int:
        """Give the number of texts admitted and not answered yet."""
        return self._waiting

    def expected_wait(self, texts: int = 0) -> float:
        """Give the seconds after which `texts` more would be answered, at the present pace."""
        return (self._waiting + texts) * self._pace

    async def answer(
        self,
        version: LoadedVersion,
        inputs: Sequence[Inputs],
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
        request = _Request(version, [None] * count, count, loop.create_future(), now + allowed)
        version.take()
        if self._waiting == 0:
            self._busy = (now, 0)
        self._waiting += count
        self.metrics.queue_depth.set(self._waiting)
        self._cut(request, inputs, lengths, now)
        watch: asyncio.Task[None] | None = None

        def start_watch() -> None:
            nonlocal watch
            watch = loop.create_task(_watch(request, allowed, gone))

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
        self, request: _Request, inputs: Sequence[Inputs], lengths: Sequence[int], now: float
    ) -> None:
        if len(inputs) == 1:
            self._pieces.put(_Piece(request, [0], [inputs[0]], now))
            return
        # Longest first, so that the last piece to finish is a short one.
        order = sorted(range(len(inputs)), key=lambda place: -lengths[place])
        size = max(1, min(self.limits.batch_texts, -(-len(order) // max(1, len(self._threads)))))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            self._pieces.put(_Piece(request, places, [inputs[place] for place in places], now))

    def _work(self) -> None:
        held: _Piece | None = None
        while True:
            piece = held or self._pieces.get()
            held = None
            if piece is None:
                return
            batch, texts = [piece], len(piece.inputs)
            while texts < self.limits.batch_texts:
                try:
                    more = self._pieces.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._pieces.put(None)
                    break
                if more.request.version is not piece.request.version:
                    held = more
                    break
                batch.append(more)
                texts += len(more.inputs)
            self._answer(batch)

    def _answer(self, batch: list[_Piece]) -> None:
        begun = time.monotonic()
        live = [
            piece
            for piece in batch
            if not piece.request.abandoned and begun < piece.request.deadline
        ]
        results = _run(live)
        done = time.monotonic()
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._deliver, batch, results, begun, done)
        except RuntimeError:  # the loop closed in between: nobody waits any more
            return

    def _deliver(
        self,
        batch: list[_Piece],
        results: dict[int, list[Answer] | Exception],
        begun: float,
        done: float,
    ) -> None:
        metrics, totals, texts = self.metrics, self.totals, 0
        for piece in batch:
            request, count = piece.request, len(piece.inputs)
            self._waiting -= count
            request.left -= count
            if request.left == 0:
                request.version.give_back()
            metrics.queue_seconds.observe(begun - piece.queued_at)
            totals.queue_seconds += (begun - piece.queued_at) * count
            result = results.get(id(piece))
            if result is None:
                _fail(request, too_late(self.limits.deadline_seconds))
            elif isinstance(result, Exception):
                _fail(request, result)
                totals.failed += count
            else:
                texts += count
                for place, answer in zip(piece.places, result, strict=True):
                    request.answers[place] = answer
                if request.left == 0 and not request.future.done():
                    request.future.set_result(None)
        if texts:
            self._measure(texts, done - begun)
            metrics.compute_seconds.observe(done - begun)
            metrics.batch_rows.observe(texts)
            totals.texts += texts
            totals.runs += 1
            totals.compute_seconds += done - begun
            totals.last = time.time()
        metrics.queue_depth.set(self._waiting)

    def _measure(self, texts: int, seconds: float) -> None:
        """Learn the pace: what really came out while texts waited, not what one run takes.

        On a busy machine the two differ by a factor: runs wait for a processor, and for each other.
        """
        if not self._pace:
            self._pace = seconds / texts / max(1, self.limits.workers)
        since, answered = self._busy
        answered += texts
        elapsed = time.monotonic() - since
        if elapsed >= _PACE_SECONDS:
            self._pace += (elapsed / answered - self._pace) * 0.5
            since, answered = time.monotonic(), 0
        self._busy = (since, answered)


def _run(pieces: list[_Piece]) -> dict[int, list[Answer] | Exception]:
    """Answer pieces together; when that fails, one by one, so that only the guilty one fails."""
    if not pieces:
        return {}
    version = pieces[0].request.version
    try:
        answers = version.answer([item for piece in pieces for item in piece.inputs])
    except Exception as error:
        if len(pieces) == 1:
            return {id(pieces[0]): error}
        results: dict[int, list[Answer] | Exception] = {}
        for piece in pieces:
            results |= _run([piece])
        return results
    found: dict[int, list[Answer] | Exception] = {}
    start = 0
    for piece in pieces:
        found[id(piece)] = answers[start : start + len(piece.inputs)]
        start += len(piece.inputs)
    return found


def _fail(request: _Request, error: Exception) -> None:
    request.abandoned = True  # pieces that still wait are passed over
    if not request.future.done():
        request.future.set_exception(error)


async def _watch(
    request: _Request,
    allowed: float,
    gone: Callable[[], asyncio.Future[None]] | None,
) -> None:
    """Give a request up when its deadline passes or its client goes away."""
    seconds = max(0.0, request.deadline - time.monotonic())
    if gone is None:
        await asyncio.sleep(seconds)
        _fail(request, too_late(allowed))
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
        _fail(request, RequestProblem(499, "The client went away.", reason="cancelled"))
    else:
        _fail(request, too_late(allowed))
