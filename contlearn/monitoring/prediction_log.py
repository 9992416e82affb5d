"""The server's log of what it answered: bounded, asynchronous, and never in the way.

Segments are JSONL files `<first moment>-<pid>.jsonl` in state/predictions. The writer is a thread
of its own; when it falls behind, records are dropped and counted, and no request waits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from contlearn.interfaces import Clock
from contlearn.statistics.scores import free_energy
from contlearn.tasks.words import language_of

__all__ = [
    "LoggedPrediction",
    "PredictionLog",
    "predicted_labels",
    "read_predictions",
    "sweep_segments",
]

SUFFIX: Final = ".jsonl"
_QUEUE: Final = 20_000
# Less than half a millisecond of work: nobody notices that long.
_LINES_AT_ONCE: Final = 32
_log = logging.getLogger("contlearn.monitoring")


class Line(Protocol):
    """What the log writes: a prediction, or two predictions compared."""

    def to_json(self) -> dict[str, Any]:
        """Give the line."""
        ...


class Tally(Protocol):
    """What counts: a Prometheus counter fits."""

    def inc(self, amount: float = ...) -> None:
        """Count."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPrediction:
    """One answered text. `labels` are the class, or the entity types found.

    `answer` names the entities without their words, so that a label that comes later can be
    compared; classes need none. `is_unknown` is the server's flag, where the version has one.
    `projection` is the graph's fixed projection of the embedding. `index` is the text's place in
    its request. Of `text` the language is written, and the text itself only with `keep_text`
    (`monitoring.log_text`); of `logits` the free energy is, the least certain
    word's. Both are worked out by the writer's thread.
    """

    time: float
    request_id: str
    index: int
    version: int
    labels: tuple[str, ...]
    confidence: float | None
    characters: int
    answer: str | None = None
    is_unknown: bool | None = None
    tokens: int | None = None
    unknown_ratio: float | None = None
    projection: Sequence[float] | None = None
    logits: Any = None
    text: str | None = None
    keep_text: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give the line of the log; what is not known is left out."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "index": self.index,
            "version": self.version,
            "labels": list(self.labels),
            "characters": self.characters,
        }
        if self.answer is not None:
            line["answer"] = self.answer
        if self.is_unknown is not None:
            line["unknown"] = self.is_unknown
        if self.confidence is not None:
            line["confidence"] = round(self.confidence, 6)
        if self.tokens is not None:
            line["tokens"] = self.tokens
        if self.unknown_ratio is not None:
            line["unknown_ratio"] = round(self.unknown_ratio, 6)
        if self.projection is not None:
            line["projection"] = _rounded(self.projection)
        if self.logits is not None and len(self.logits):
            line["energy"] = round(float(free_energy(self.logits).min()), 4)
        if self.text is not None:
            line["language"] = language_of(self.text)
            if self.keep_text:
                line["text"] = self.text
        return line


def _rounded(values: Sequence[float]) -> list[float]:
    rounded: Any = getattr(values, "round", None)
    if rounded is None:
        return [round(float(value), 5) for value in values]
    # An array rounds all its values at once; 32-bit digits would not print short.
    whole: list[float] = values.astype("float64").round(5).tolist()  # type: ignore[attr-defined]  # it is an array
    return whole


@dataclass
class PredictionLog:
    """Writes predictions behind the server's back.

    Args:
        folder: state/predictions.
        clock: Names the segments and judges their age.
        max_bytes: All segments together; the oldest go first.
        max_age_seconds: Segments whose last line is older go.
        segment_bytes: A segment is closed at this size.
        queue_records: What may wait for the writer; the rest is dropped.
        written: Counts what was written.
        dropped: Counts what was not.
        flush_seconds: How long a record waits at most before it is on disk.
    """

    folder: Path
    clock: Clock
    max_bytes: int = 50_000_000
    max_age_seconds: float = 30 * 86400.0
    segment_bytes: int = 5_000_000
    queue_records: int = _QUEUE
    written: Tally | None = None
    dropped: Tally | None = None
    flush_seconds: float = 0.5
    _queue: deque[Line] = field(default_factory=deque, init=False)
    _wake: threading.Event = field(default_factory=threading.Event, init=False)
    _closing: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _segment: Path | None = field(default=None, init=False)
    _segment_size: int = field(default=0, init=False)
    _failed: bool = field(default=False, init=False)

    def start(self) -> None:
        """Start the writer."""
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, prediction: Line) -> None:
        """Take a prediction, or drop it when the writer is behind. Never waits."""
        if len(self._queue) >= self.queue_records or self._closing:
            if self.dropped is not None:
                self.dropped.inc()
            return
        self._queue.append(prediction)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Write what waits, and stop."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            self._wake.wait(self.flush_seconds)
            closing = self._closing
            self.flush()
            if closing:
                return

    def flush(self) -> None:
        """Write everything that waits now; a disk that fails costs records, never a request."""
        batch: list[Line] = []
        while self._queue and len(batch) < self.queue_records:
            batch.append(self._queue.popleft())
        if not batch:
            return
        try:
            self._write(batch)
        except OSError as error:
            if not self._failed:  # once, not at every batch
                hint = "Answers go on; what cannot be logged is dropped and counted."
                facts = {"error": str(error), "where": str(self.folder), "hint": hint}
                _log.error("prediction log failed", extra=facts)
            self._failed = True
            self._segment = None
            if self.dropped is not None:
                self.dropped.inc(len(batch))
        else:
            self._failed = False
            if self.written is not None:
                self.written.inc(len(batch))

    def _write(self, batch: list[Line]) -> None:
        parts = []
        for start in range(0, len(batch), _LINES_AT_ONCE):
            parts += [
                orjson.dumps(item.to_json(), option=orjson.OPT_APPEND_NEWLINE)
                for item in batch[start : start + _LINES_AT_ONCE]
            ]
            time.sleep(0)  # Python's lock is for whoever answers requests
        data = b"".join(parts)
        if self._segment is None or self._segment_size + len(data) > self.segment_bytes:
            self._open()
        segment = self._segment
        if segment is None:
            raise OSError("no segment is open")
        # One write in append mode: a kill leaves at most one cut line, at the end of a segment.
        descriptor = os.open(segment, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        before = os.fstat(descriptor).st_size
        try:
            view = memoryview(data)
            while view:  # a disk that is nearly full takes a part
                view = view[os.write(descriptor, view) :]
        except OSError:
            os.ftruncate(descriptor, before)  # whole lines only; no other process writes this one
            if not before:
                segment.unlink(missing_ok=True)  # nor one file for each batch that failed
            raise
        finally:
            os.close(descriptor)
        self._segment_size += len(data)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = self.clock.now()
        stem = f"{now:%Y%m%dT%H%M%S}{now.microsecond:06d}-{os.getpid()}"
        self._segment, self._segment_size = self.folder / f"{stem}{SUFFIX}", 0
        # Room for the segment that begins now.
        room = self.max_bytes - self.segment_bytes
        sweep_segments(self.folder, most=room, max_age=self.max_age_seconds, now=now.timestamp())


def sweep_segments(
    folder: Path, *, most: float, max_age: float, now: float, spare_newest: bool = False
) -> int:
    """Take away the oldest segments until size and age are within bounds.

    Args:
        folder: state/predictions.
        most: Bytes that may stay.
        max_age: Seconds since the last change of one that may stay.
        now: Seconds since the epoch.
        spare_newest: Leave the last one, which somebody may be writing.
    Returns:
        How many went.
    """
    facts = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            facts.append((path, stat.st_size, stat.st_mtime))
    total = sum(size for _, size, _ in facts)
    gone = 0
    for path, size, changed in facts[:-1] if spare_newest else facts:
        if total <= most and now - changed <= max_age:
            break
        path.unlink(missing_ok=True)
        total -= size
        gone += 1
    return gone


def read_predictions(
    folder: Path,
    *,
    newest: int | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield logged predictions, newest first; a line cut by a kill is passed over.

    Segments of servers that ran side by side overlap in time: within a segment the order holds,
    across them only roughly.

    Args:
        folder: state/predictions.
        newest: At most so many.
        since: ISO moment in UTC; what is older is left out.
        until: ISO moment in UTC; what is not older is left out.
    """
    left = newest
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True):
        if until is not None and path.name[:15] > _stamp(until):
            continue
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:  # swept away in between
            continue
        for line in reversed(lines):
            if left is not None and left <= 0:
                return
            try:
                value = orjson.loads(line)
            except ValueError:
                continue
            if not isinstance(value, dict):
                continue
            moment = str(value.get("time", ""))
            if (since is not None and moment < since) or (until is not None and moment >= until):
                continue
            yield value
            if left is not None:
                left -= 1


def _stamp(moment: str) -> str:
    """Write an ISO moment as the names of segments begin: to the second."""
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y%m%dT%H%M%S}"


def predicted_labels(folder: Path, window: int) -> Mapping[str, int]:
    """Count the labels of the newest logged predictions."""
    return Counter(
        "+".join(sorted(item.get("labels", ()))) or "O"
        for item in read_predictions(folder, newest=window)
    )
