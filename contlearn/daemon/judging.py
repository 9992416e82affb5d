"""Which update is due now: the facts, read as seldom as can be, and the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from contlearn.catalog.cycles import CycleRow, last_cycle, unfinished_cycle, waiting_cycle
from contlearn.catalog.records import RecordCounts, count_records
from contlearn.catalog.schema import cycles, records
from contlearn.config.schedule import local_day
from contlearn.context import Context
from contlearn.cycle.causes import note_fired, read_fired, read_request, seconds_today
from contlearn.cycle.triggers import (
    RESUME,
    Trigger,
    TriggerFacts,
    due_triggers,
    holds_back,
    new_labels,
    unused,
)
from contlearn.daemon.pacing import Every
from contlearn.monitoring.signals import read_signals, signals_path

__all__ = ["Judging"]

# What others change (`data release`, a rollback by hand) is seen after so long at most.
_RECOUNT_SECONDS: Final = 30.0
# With nothing new in the catalog, what only time brings is looked for this often.
_IDLE_SECONDS: Final = 5.0


class Judging:
    """Decides what to do next, and remembers in words why nothing is done.

    Args:
        context: The opened workspace.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.due: list[Trigger] = []
        self.waits: dict[str, str] = {}
        self.words = "watching"
        self._recount = Every(context.clock, _RECOUNT_SECONDS)
        self._seen: tuple[Any, ...] | None = None
        self._counts = RecordCounts()
        self._labels: dict[str, int] = {}
        self._shown: object = None
        self._judged: tuple[Any, ...] | None = None

    def forget(self) -> None:
        """Count everything again at the next look."""
        self._seen = self._judged = None

    def has_changed(self) -> bool:
        """Say whether what is due or waits has changed since the last call."""
        now = ([trigger.run_key for trigger in self.due], sorted(self.waits))
        changed = now != self._shown
        self._shown = now
        return changed

    def next_trigger(self, *, waits_for: str | None, retry_in: float) -> Trigger | None:
        """Give the trigger to serve now, or None.

        Args:
            waits_for: Why no update may start by itself (a probation).
            retry_in: Seconds to wait after a failure.
        """
        stamp = self._stamp(waits_for is None, retry_in > 0)
        if stamp is not None and stamp == self._judged:
            return None
        trigger = self._judge(waits_for, retry_in)
        # What is due is judged anew when its turn did not come.
        self._judged = None if trigger is not None else stamp
        return trigger

    def _judge(self, waits_for: str | None, retry_in: float) -> Trigger | None:
        with self.context.catalog.read() as connection:
            interrupted = unfinished_cycle(connection)
        if interrupted is not None:
            reason = f"the cycle {interrupted.cycle_id} was interrupted"
            found = [Trigger(RESUME, reason, "")]
            facts = None
        else:
            facts = self._facts()
            with self.context.catalog.read() as connection:
                all_due = due_triggers(self.context.config.update, facts)
                found = unused(connection, all_due)
            for trigger in all_due:
                if trigger not in found and trigger.name in ("schedule", "request"):
                    self.served(trigger)  # its cycle ran, and the daemon was killed right after
        self.due, self.waits = found, {}
        for trigger in found:
            why = None
            if trigger.name != "request":
                if retry_in > 0:
                    why = f"waiting {retry_in:.0f} s after a failure"
                elif trigger.name != RESUME and waits_for is not None:
                    why = waits_for
                elif facts is not None:
                    config = self.context.config
                    why = holds_back(
                        config.update, facts, trigger, part_seconds=config.daemon.retry_seconds
                    )
            if why is None:
                self.words = f"due: {trigger.reason}"
                return trigger
            self.waits[trigger.name] = why
        self.words = "watching"
        if found:
            self.words = f"{found[0].reason}; {self.waits[found[0].name]}"
        return None

    def _stamp(self, *facts: bool) -> tuple[Any, ...] | None:
        """Give what a judgement depends on, for little: the files' times, and the time in steps.

        None where the catalog is no file: then each look asks it.
        """
        context, clock = self.context, self.context.clock
        url = context.catalog.url
        if url.get_backend_name() != "sqlite" or not url.database:
            return None
        files = (url.database, f"{url.database}-wal", signals_path(context.workspace.state))
        times = tuple(_changed(Path(path)) for path in files)
        steps = int(clock.monotonic() / _IDLE_SECONDS), int(clock.now().timestamp() / _IDLE_SECONDS)
        return (*facts, times, steps)

    def served(self, trigger: Trigger) -> None:
        """Remember that a trigger had its turn."""
        catalog, now = self.context.catalog, self.context.clock.now()
        if trigger.name == "schedule":
            note_fired(catalog, "schedule", now, {"run_key": trigger.run_key})
        elif trigger.name == "request":
            note_fired(catalog, "request", now, {})

    def _facts(self) -> TriggerFacts:
        context = self.context
        now, update = context.clock.now(), context.config.update
        champion = context.registry.champion()
        with context.catalog.read() as connection:
            last = last_cycle(connection)
            self._count(connection, last, champion)
        since = read_fired(context.catalog, "schedule") or now
        if since > now:
            # The clock was set back. What it showed before does not hold the schedule up; a moment
            # that was served already has its cycle, and its run key says so.
            since = now
            note_fired(context.catalog, "schedule", now, {"clock": "set back"})
        spent = 0.0
        if update.max_minutes_per_day:
            spent = seconds_today(context.catalog, local_day(update, now))
        return TriggerFacts(
            counts=self._counts,
            now=now,
            schedule_since=since,
            last=last,
            champion=champion,
            new_labels=self._labels,
            signals=read_signals(context.workspace.state),
            request=read_request(context.catalog),
            seconds_today=spent,
        )

    def _count(
        self, connection: sa.engine.Connection, last: CycleRow | None, champion: int | None
    ) -> None:
        """Count again when something can have changed: counting millions is not free."""
        newest = connection.execute(sa.select(sa.func.max(records.c.seq))).scalar()
        number = connection.execute(sa.select(sa.func.max(cycles.c.seq))).scalar()
        seen = (newest, number, last.state if last else None, champion)
        if seen == self._seen and not self._recount.is_due():
            return
        self._recount()
        self._seen = seen
        # A challenger that awaits approval has learnt its records: they are no reason for another.
        waiting = waiting_cycle(connection)
        taken = waiting.cycle_id if waiting is not None else None
        self._counts = count_records(connection, only_open=True)
        self._labels = {}
        if champion is not None and self._counts.pending:
            task = self.context.task
            known = task.label_names(self.context.registry.get(champion).label_space.names)
            self._labels = new_labels(
                connection, known, labels_of_key=task.labels_of_key, without_cycle=taken
            )


def _changed(path: Path) -> tuple[int, int]:
    """Give when a file last changed, and its size; zeros where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_size
