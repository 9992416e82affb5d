"""The time after a promotion: live measures against the former champion, and the way back.

Three things are watched: errors and latency of the server against what it counted before, and the
labels that come in, on which both versions answer in a child (accuracy, and answers that were
right before). Each test has its own error rate, and looking often does not raise it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog

from contlearn.catalog.counting import unlearnt
from contlearn.catalog.schema import records
from contlearn.config import ProbationConfig
from contlearn.context import Context
from contlearn.cycle.changes import roll_back
from contlearn.daemon.live import LiveTotals, quantile, read_live
from contlearn.errors import ChampionChanged, ContlearnError, ServingError, StorageError
from contlearn.papers.journal import JournalRecord
from contlearn.processes.asking import ask_child
from contlearn.processes.children import ChildLimits, MustStop
from contlearn.statistics.exact import sign_test
from contlearn.statistics.intervals import wilson_lower
from contlearn.workspace import write_json_atomic

__all__ = ["Probation"]

_FORMAT: Final = 1
_ROWS: Final = 500
_P95: Final = 0.95


@dataclass
class _State:
    """What is remembered between looks and restarts; `change` numbers the promotion."""

    change: int
    version: int
    former: int
    elapsed: float = 0.0
    after: int = 0
    looks: int = 0
    rows: int = 0
    verdict: str = ""
    reason: str = ""
    before: dict[str, Any] | None = None
    seen: dict[str, Any] | None = None
    now: dict[str, Any] | None = None
    labels: dict[str, int] = field(default_factory=dict)


class Probation:
    """Watches each new champion of a workspace for a while.

    Time is counted while the daemon runs, so that neither a clock that is set nor a night without
    a daemon ends a probation.

    Args:
        context: The opened workspace.
        compare: Gives the numbers of `contlearn.daemon.comparing`; run in a child if left out.
    """

    def __init__(
        self, context: Context, compare: Callable[[int, int, int], dict[str, int]] | None = None
    ) -> None:
        self.context = context
        self._compare = compare
        self._state = self._load()
        self._looked: float | None = None
        self._must_stop: MustStop | None = None
        # The change of the champion for which it was said that no server answers.
        self._unheard: int | None = None

    @property
    def path(self) -> Path:
        """Where it is remembered."""
        return self.context.workspace.state / "probation.json"

    @property
    def settings(self) -> ProbationConfig:
        """The configuration."""
        return self.context.config.probation

    def until(self) -> str | None:
        """Say what updates wait for; None when no version is on probation."""
        state = self._state
        if state is None or state.verdict or not self.settings.window:
            return None
        left = max(0.0, self.settings.window - state.elapsed)
        return f"version {state.version} is on probation for {left:.0f} s more"

    def to_json(self) -> dict[str, Any] | None:
        """Give the last probation for `status --json`."""
        return None if self._state is None else asdict(self._state)

    def look(self, must_stop: MustStop | None = None) -> str | None:
        """Look once, and go back to the former champion when it must be.

        Returns:
            Why it went back; None when it did not.
        Raises:
            RegistryError: When going back failed.
            StorageError: When the disk refuses.
        """
        if not self.settings.window:
            return None
        self._must_stop = must_stop
        now = self.context.clock.monotonic()
        # The machine may have slept: a look counts a few intervals at most.
        longest = 3 * self.settings.check_interval
        passed = 0.0 if self._looked is None else min(now - self._looked, longest)
        self._looked = now
        change = self.context.registry.last_change()
        if change is None:
            return None
        if self._state is None or self._state.change != change.number:
            self._begin(change)
            return None
        state = self._state
        if state.verdict:
            self._watch_former()
            return None
        state.elapsed += passed
        reason = self._judge(state)
        if reason is not None:
            try:
                return self._go_back(state, reason, seen=change.epoch)
            except ChampionChanged:
                return None  # somebody was faster: the next look begins with what is so now
        if state.elapsed >= self.settings.window:
            state.verdict, state.reason = "passed", self._evidence(state)
            self.context.emit("probation-passed", version=state.version, reason=state.reason)
        self._save()
        return None

    def _begin(self, change: JournalRecord) -> None:
        """Begin with a promotion; a rollback and the very first version need no probation."""
        before = self._state
        self._state = _State(change.number, change.version, change.previous or 0)
        if before is not None:
            self._state.seen = before.seen
            # After a rollback the one before is the champion again: what was known of it holds.
            kept = before.verdict in ("passed", "not needed")
            self._state.before = before.now if kept else before.before
        age = self.context.clock.now() - datetime.fromisoformat(change.at)
        is_old = before is None and abs(age.total_seconds()) > self.settings.window
        if change.event != "promote" or not change.previous or is_old:
            self._state.verdict = "not needed"
        with self.context.catalog.read() as connection:
            # Records that wait now came too late for the new version: neither has learnt them.
            first = connection.execute(
                sa.select(sa.func.min(records.c.seq)).where(unlearnt())
            ).scalar()
            last = connection.execute(sa.select(sa.func.max(records.c.seq))).scalar()
        self._state.after = int(first) - 1 if first is not None else int(last or 0)
        totals = self._live()
        if totals is not None:
            self._state.seen = totals.to_json()
        self._save()

    def _watch_former(self) -> None:
        """Between probations: count what the present champion's server does, to compare with."""
        state, totals = self._state, self._live()
        if state is None or totals is None or totals.version != state.version:
            return
        if state.seen is not None:
            span = totals.since(LiveTotals.from_json(state.seen))
            known = LiveTotals.from_json(state.now) if state.now else LiveTotals()
            state.now = _halved(known.plus(span)).to_json()
        state.seen = totals.to_json()
        self._save()

    def _live(self) -> LiveTotals | None:
        """Ask the server; where nobody answers that is logged, once in a probation."""
        serving, model = self.context.config.serving, self.context.config.model.name
        url, certificate = self.settings.server.rstrip("/"), None
        if not url:
            if serving.tls_certificate:
                certificate = self.context.workspace.root / serving.tls_certificate
            host = f"[{serving.host}]" if ":" in serving.host else serving.host
            url = f"{'https' if certificate else 'http'}://{host}:{serving.port}"
        try:
            return read_live(url, model, certificate=certificate)
        except ServingError as error:
            state = self._state
            if state is not None and not state.verdict and self._unheard != state.change:
                self._unheard = state.change
                structlog.get_logger("contlearn.daemon").warning(
                    "errors and latency of the server are not judged",
                    model=model,
                    version=state.version,
                    **error.to_json(),
                )
            return None

    def _judge(self, state: _State) -> str | None:
        totals = self._live()
        if totals is not None and totals.version == state.version:
            if state.seen is not None:
                span = totals.since(LiveTotals.from_json(state.seen))
                known = LiveTotals.from_json(state.now) if state.now else LiveTotals()
                state.now = known.plus(span).to_json()
            state.seen = totals.to_json()
        elif totals is not None:
            state.seen = totals.to_json()  # not swapped yet: what it does counts for the former
        return self._judge_server(state) or self._judge_labels(state)

    def _judge_server(self, state: _State) -> str | None:
        settings = self.settings
        if state.now is None:
            return None
        now = LiveTotals.from_json(state.now)
        if now.requests < settings.min_requests:
            return None
        before = LiveTotals.from_json(state.before) if state.before else LiveTotals()
        share, former = _share(now), _share(before)
        least = wilson_lower(int(now.errors), int(now.requests), confidence=settings.confidence)
        if share - former > settings.max_error_increase and least > former:
            return (
                f"{share:.1%} of {now.requests:.0f} requests failed, {former:.1%} before "
                f"(at most {settings.max_error_increase:.1%} more are allowed)"
            )
        late, usual = quantile(now, _P95), quantile(before, _P95)
        if (
            late is not None
            and usual is not None
            and before.requests >= settings.min_requests
            and late > settings.max_latency_ratio * usual
            and late > usual + settings.min_latency_increase
        ):
            return (
                f"95% of requests took up to {1000 * late:.0f} ms, {1000 * usual:.0f} ms before "
                f"(at most {settings.max_latency_ratio:g} times as long is allowed)"
            )
        return None

    def _judge_labels(self, state: _State) -> str | None:
        settings = self.settings
        with self.context.catalog.read() as connection:
            rows = connection.execute(
                sa.select(sa.func.count()).where(records.c.seq > state.after, unlearnt())
            ).scalar_one()
        # Enough, and a quarter more than at the last look.
        if rows < settings.min_labels or rows < 1.25 * state.rows:
            return None
        # Also when comparing fails: it is tried again with more rows, not at every look.
        state.rows = rows
        found = self._numbers(state)
        if found is None:
            return None
        state.looks, state.labels = state.looks + 1, found
        if found["rows"] < settings.min_labels:
            return None
        # 1/2 + 1/6 + 1/12 + … = 1: all looks together keep the rate.
        level = (1.0 - settings.confidence) / (state.looks * (state.looks + 1))
        lost, won, total = found["lost"], found["won"], found["rows"]
        measured = (
            f"on {total} records with new labels it is right {found['right'] / total:.1%} of the "
            f"time, version {state.former} {found['former_right'] / total:.1%}: {lost} answers "
            f"were lost and {won} won"
        )
        if lost > won and sign_test(lost, won) <= level:
            return measured
        if settings.max_flips and lost / total > settings.max_flips:
            return f"{measured} (probation.max_flips allows {settings.max_flips:.1%} lost)"
        return None

    def _numbers(self, state: _State) -> dict[str, int] | None:
        if self._compare is not None:
            return self._compare(state.version, state.former, state.after)
        root = self.context.workspace.root
        try:
            found = ask_child(
                "contlearn.daemon.comparing",
                (root, state.version, state.former, state.after, _ROWS),
                what="Comparing with the former version",
                needed="rows",
                log=self.context.workspace.state / "probation.log",
                limits=ChildLimits(log_bytes=self.context.config.retention.log_bytes),
                environ=self.context.for_children(),
                must_stop=self._must_stop,
            )
        except ContlearnError as error:
            self.context.emit("alert", subject="the probation could not compare", reason=error.what)
            return None
        return {name: int(value) for name, value in found.items()}

    def _go_back(self, state: _State, reason: str, *, seen: int) -> str:
        words = f"probation of version {state.version}: {reason}"
        roll_back(
            self.context,
            to=state.former,
            hold=True,
            actor="daemon (probation)",
            reason=words,
            seen=seen,
            origin="daemon",
        )
        state.verdict, state.reason = "rolled back", reason
        # Should this write fail: the journal's newest change is a rollback, so nothing repeats.
        with contextlib.suppress(StorageError):
            self._save()
        return words

    def _evidence(self, state: _State) -> str:
        parts = []
        if state.now:
            parts.append(f"{state.now['requests']:.0f} requests")
        if state.labels:
            parts.append(f"{state.labels['rows']} new labels")
        return " and ".join(parts) or "no requests and no labels were seen"

    def _save(self) -> None:
        if self._state is not None:
            write_json_atomic(self.path, {"format_version": _FORMAT, **asdict(self._state)})

    def _load(self) -> _State | None:
        try:
            value = json.loads(self.path.read_bytes())
            if value.pop("format_version") != _FORMAT:
                return None
            return _State(**value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _share(totals: LiveTotals) -> float:
    return totals.errors / totals.requests if totals.requests else 0.0


def _halved(totals: LiveTotals, *, most: float = 1e6) -> LiveTotals:
    """Let old times fade, so that the comparison is with how it was of late."""
    if totals.requests <= most:
        return totals
    return LiveTotals(
        totals.version,
        totals.requests / 2,
        totals.errors / 2,
        {bound: count / 2 for bound, count in totals.buckets.items()},
    )
