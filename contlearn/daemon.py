"""The daemon: look at the inbox, start updates when they are due, tell how it goes.

It holds no learning logic: files are taken in and models are made in children, so that this
process stays small and a crash there is a failed cycle, never a dead daemon.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from contlearn import __version__
from contlearn.catalog.cycles import last_cycle, unfinished_cycle
from contlearn.catalog.leases import hold_lease
from contlearn.catalog.records import count_records
from contlearn.errors import ContlearnError, WorkspaceLocked
from contlearn.pipeline.children import ChildStopped
from contlearn.pipeline.context import Context
from contlearn.pipeline.cycle import UpdateCycle, UpdateResult, scan_in_child
from contlearn.pipeline.triggers import Trigger, due_trigger, next_scheduled, note_fired, read_fired
from contlearn.workspace import write_json_atomic

__all__ = ["Daemon"]


@dataclass
class Daemon:
    """One workspace, watched until told to stop.

    Args:
        context: The opened workspace.
        stop: Set to end; a running child is given `daemon.grace_seconds` to end, and its cycle is
            taken up again at the next start.
        plugins_dir: A folder of loose plugin files that children must load too.
    """

    context: Context
    stop: threading.Event = field(default_factory=threading.Event)
    plugins_dir: Path | None = None

    def __post_init__(self) -> None:
        self.log = structlog.get_logger("contlearn.daemon").bind(
            model=self.context.config.model.name
        )
        self.started_at = self.context.clock.now()
        self.failures = 0
        self.retry_at: float = 0.0
        self.scan_error: str | None = None
        self._beat: float | None = None

    def heartbeat(self) -> float | None:
        """Give when the last look at the workspace began, in seconds since the epoch."""
        return self._beat

    def run(self) -> None:
        """Work until `stop` is set.

        Raises:
            WorkspaceLocked: When another daemon watches this workspace.
        """
        context, update = self.context, self.context.config.update
        with hold_lease(
            context.catalog,
            "daemon",
            purpose="watching this workspace as its daemon",
            seconds=update.lease_seconds,
            heartbeat_seconds=update.heartbeat_seconds,
        ):
            self.log.info("daemon started", version=__version__, pid=os.getpid())
            if read_fired(context.catalog, "schedule") is None:
                # The schedule begins now: what would have been before the first start is not due.
                note_fired(context.catalog, "schedule", self.started_at, {"first": True})
            while not self.stop.is_set():
                self.step()
                self.stop.wait(context.config.daemon.scan_seconds)
            self._write_state(running=False)
            self.log.info("daemon stopped")

    def step(self) -> UpdateResult | None:
        """Scan once, and update if one is due; errors are logged and tried again later."""
        context = self.context
        self._write_state(running=True)
        try:
            report = scan_in_child(context, stop=self.stop)
            self.scan_error = None
            if report and report.get("files"):
                self.log.info(
                    "files taken in",
                    **{k: report[k] for k in ("accepted", "duplicates", "conflicts", "rejected")},
                )
        except ChildStopped:
            return None
        except ContlearnError as error:
            if str(error) != self.scan_error:
                self.log.error("inbox could not be taken in", **error.to_json())
            self.scan_error = str(error)
        if context.clock.monotonic() < self.retry_at:
            return None
        trigger = self._due()
        return None if trigger is None else self._update(trigger)

    def _due(self) -> Trigger | None:
        context = self.context
        with context.catalog.read() as connection:
            counts, last = count_records(connection), last_cycle(connection)
            interrupted = unfinished_cycle(connection)
        if interrupted is not None:
            return Trigger("resume", f"cycle {interrupted.cycle_id} was interrupted", "")
        ended = last.ended_at if last is not None else None
        return due_trigger(
            context.config.update,
            counts,
            now=context.clock.now(),
            last_ended=datetime.fromisoformat(ended) if ended else None,
            schedule_since=read_fired(context.catalog, "schedule") or self.started_at,
        )

    def _update(self, trigger: Trigger) -> UpdateResult | None:
        context = self.context
        self.log.info("update due", trigger=trigger.name, reason=trigger.reason)
        try:
            result = UpdateCycle(context, stop=self.stop, plugins_dir=self.plugins_dir).run_once(
                trigger=trigger.name, run_key=trigger.run_key or None
            )
        except ChildStopped:
            self.log.info("update stopped; the next start takes it up again")
            return None
        except WorkspaceLocked as error:
            self.log.info("update waits", **error.to_json())
            return None
        except ContlearnError as error:
            self._back_off(error)
            return None
        if trigger.name == "schedule":
            note_fired(
                context.catalog, "schedule", context.clock.now(), {"run_key": trigger.run_key}
            )
        if result.outcome == "failed" and result.error is not None:
            self._back_off(result.error)
        else:
            self.failures = 0
        self.log.info(
            "update ended",
            cycle=result.cycle,
            outcome=result.outcome,
            version=result.version,
            seconds=round(result.seconds, 1),
            refused_by=[r["rule"] for r in result.reasons if r["passed"] is False],
        )
        return result

    def _back_off(self, error: ContlearnError) -> None:
        """Wait longer after each failure in a row."""
        settings = self.context.config.daemon
        self.failures += 1
        wait = min(settings.retry_seconds * 2 ** (self.failures - 1), settings.max_retry_seconds)
        self.retry_at = self.context.clock.monotonic() + wait
        self.log.error(
            "update failed", failures=self.failures, retry_in_seconds=wait, **error.to_json()
        )

    def _write_state(self, *, running: bool) -> None:
        context = self.context
        now = context.clock.now()
        self._beat = now.timestamp()
        scheduled = next_scheduled(context.config.update, now)
        state: dict[str, Any] = {
            "pid": os.getpid(),
            "started_at": self.started_at.isoformat(),
            "heartbeat_at": now.isoformat(),
            "next_scheduled": scheduled.isoformat() if scheduled else None,
            "failures": self.failures,
            "inbox_error": self.scan_error,
            "stopping": not running,
        }
        # A full disk must not end the daemon: the next beat writes it.
        with contextlib.suppress(ContlearnError):
            write_json_atomic(context.workspace.state / "daemon.json", state)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """End cleanly on SIGTERM and SIGINT while the block runs."""

        def handle(number: int, _frame: FrameType | None) -> None:
            self.log.info("signal", name=signal.Signals(number).name)
            self.stop.set()

        before = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
