"""Trying a version on real requests: as canary it answers some, as shadow it only looks on."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from contlearn.monitoring.prediction_log import PredictionLog
from contlearn.serving.compute.engine import Lane, VersionRetired
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.versions.canary import CanaryWatch
from contlearn.serving.versions.roles import Roles, RolesFile
from contlearn.serving.versions.shelf import Shelf
from contlearn.serving.versions.version import Answer, LoadedVersion
from contlearn.telemetry.server_metrics import ServerMetrics
from contlearn.types import Inputs

__all__ = ["ComparedPrediction", "Trials"]

_log = logging.getLogger("contlearn.serving")
# Requests that may wait for the shadow; further ones are not shown to it.
_MAX_SHADOWED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPrediction:
    """What champion and shadow said about one text; the text itself is never kept."""

    time: float
    request_id: str
    index: int
    version: int
    shadow: int
    labels: tuple[str, ...]
    shadow_labels: tuple[str, ...]
    confidence: float | None
    shadow_confidence: float | None

    def to_json(self) -> dict[str, Any]:
        """Give the line of the log."""
        return {
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "index": self.index,
            "version": self.version,
            "shadow": self.shadow,
            "labels": list(self.labels),
            "shadow_labels": list(self.shadow_labels),
            "confidence": self.confidence,
            "shadow_confidence": self.shadow_confidence,
        }


@dataclass(eq=False)
class Trials:
    """Gives requests to canary and shadow.

    Args:
        shelf: Has them loaded.
        background: Where the shadow computes: only while nobody else waits.
        metrics: Where both are counted.
        kept: Where changes are kept.
        log: Where comparisons go; None keeps none.
    """

    shelf: Shelf
    background: Lane
    metrics: ServerMetrics
    kept: RolesFile
    log: PredictionLog | None = None
    stopped: str | None = field(default=None, init=False)
    _watch: CanaryWatch = field(default_factory=CanaryWatch, init=False)
    _watched: int | None = field(default=None, init=False)
    _shadowed: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _random: random.Random = field(default_factory=random.Random, init=False)
    _same: list[int] = field(default_factory=lambda: [0, 0], init=False)

    def change(self, roles: Roles, note: str) -> None:
        """Take other roles, and keep them."""
        self.kept.write(roles, note)
        self.shelf.change(roles)
        self.stopped = None

    async def try_canary(
        self,
        champion: LoadedVersion,
        ask: Callable[[LoadedVersion], Awaitable[list[Answer]]],
        *,
        texts: int,
        may_try: bool,
        key: str,
        wish: str | None,
    ) -> tuple[LoadedVersion, list[Answer]]:
        """Answer with the canary if it is its turn, else with the champion.

        A canary that fails costs nobody an answer: the champion gives it.
        """
        canary = self.shelf.canary() if may_try else None
        if canary is None:
            return champion, await ask(champion)
        if self._watched != canary.number:
            role = self.shelf.roles.canary
            self._watch = CanaryWatch(role.max_latency_ratio if role is not None else 2.0)
            self._watched = canary.number
        if self._is_turn(key, wish):
            answers = await self._timed(canary, ask, texts, is_canary=True)
            if answers is not None:
                return canary, answers
        timed = await self._timed(champion, ask, texts, is_canary=False)
        return champion, timed or []

    def _is_turn(self, key: str, wish: str | None) -> bool:
        role = self.shelf.roles.canary
        if role is None or wish == "never":
            return False
        if wish == "always":
            return True
        # A key of the client's own keeps its requests on one side.
        return zlib.crc32((wish or key).encode("utf-8", "replace")) < role.share * 2**32

    async def _timed(
        self,
        version: LoadedVersion,
        ask: Callable[[LoadedVersion], Awaitable[list[Answer]]],
        texts: int,
        *,
        is_canary: bool,
    ) -> list[Answer] | None:
        begun = time.perf_counter()
        try:
            answers = await ask(version)
        except VersionRetired:
            if not is_canary:
                raise
            return None
        except RequestProblem:
            raise  # the queue was full, or the client left: nothing about the version
        except Exception:
            self._watch.note(is_canary=is_canary, failed=True, seconds_per_text=None)
            if not is_canary:
                raise
            _log.exception("canary failed", extra={"version": version.number})
            self.metrics.canary["failed"].inc()
            self._judge(version)
            return None
        taken = (time.perf_counter() - begun) / max(1, texts)
        self._watch.note(is_canary=is_canary, failed=False, seconds_per_text=taken)
        if is_canary:
            self.metrics.canary["answered"].inc()
            self._judge(version)
        return answers

    def _judge(self, version: LoadedVersion) -> None:
        reason = self._watch.verdict()
        if reason is None:
            return
        _log.error("canary stopped", extra={"version": version.number, "reason": reason})
        self.metrics.canary_stops[reason].inc()
        note = f"canary {version.number} stopped: {reason}"
        self.change(replace(self.shelf.roles, canary=None), note)
        self.stopped = note

    def show(
        self,
        version: LoadedVersion,
        inputs: Sequence[Inputs],
        lengths: Sequence[int],
        answers: Sequence[Answer],
        request_id: str,
        places: Sequence[int],
    ) -> None:
        """Show a request to the shadow, if it is its turn. Never waits."""
        role = self.shelf.roles.shadow
        if role is None or not inputs:
            return
        shadow = self.shelf.shadow()
        if shadow is None or shadow is version or self._random.random() >= role.share:
            return
        if len(self._shadowed) >= _MAX_SHADOWED:
            self.metrics.shadow["dropped"].inc(len(inputs))
            return
        task = asyncio.get_running_loop().create_task(
            self._compare(version, shadow, inputs, lengths, answers, request_id, places)
        )
        self._shadowed.add(task)
        task.add_done_callback(self._shadowed.discard)

    async def _compare(
        self,
        version: LoadedVersion,
        shadow: LoadedVersion,
        inputs: Sequence[Inputs],
        lengths: Sequence[int],
        answers: Sequence[Answer],
        request_id: str,
        places: Sequence[int],
    ) -> None:
        try:
            others = await self.background.compute(shadow, inputs, lengths=lengths)
        except (RequestProblem, VersionRetired):
            self.metrics.shadow["dropped"].inc(len(inputs))
            return
        except Exception:
            _log.exception("shadow failed", extra={"version": shadow.number})
            self.metrics.shadow["failed"].inc(len(inputs))
            return
        now = time.time()
        for index, (mine, other) in enumerate(zip(answers, others, strict=True)):
            is_same = mine.prediction == other.prediction or (
                mine.prediction.labels == other.prediction.labels
            )
            self.metrics.shadow["same" if is_same else "different"].inc()
            self._same[is_same] += 1
            if self.log is not None:
                self.log.add(
                    ComparedPrediction(
                        time=now,
                        request_id=request_id,
                        index=places[index],
                        version=version.number,
                        shadow=shadow.number,
                        labels=mine.prediction.labels,
                        shadow_labels=other.prediction.labels,
                        confidence=mine.prediction.confidence,
                        shadow_confidence=other.prediction.confidence,
                    )
                )

    def facts(self) -> dict[str, Any]:
        """Give what the status shows about canary, shadow and further versions."""
        canary, shadow = self.shelf.canary(), self.shelf.shadow()
        self.metrics.role("canary", None if canary is None else canary.number)
        self.metrics.role("shadow", None if shadow is None else shadow.number)
        return {
            "roles": self.shelf.roles.to_json(),
            "beside": sorted(self.shelf.loaded),
            "canary": None if canary is None else {"version": canary.number, **self._watch.facts()},
            "canary_stopped": self.stopped,
            "shadow": None
            if shadow is None
            else {"version": shadow.number, "same": self._same[1], "different": self._same[0]},
            "versions_kept_out": {
                str(number): problem.what for number, problem in self.shelf.problems.items()
            },
        }
