"""The update cycle, seen from the parent: plan, run the child, decide, promote, settle.

    planned → training → exporting → evaluating → deciding → awaiting-approval
                                                           | promoting → promoted
                                                           | refused | kept | not-promoted | failed

Each state is one transaction; a cycle found unfinished is taken up where it stands.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy.engine import Connection

from contlearn.catalog.cycles import (
    CycleRow,
    change_cycle,
    create_cycle,
    get_cycle,
    next_look,
    unfinished_cycle,
    waiting_cycle,
)
from contlearn.catalog.leases import CYCLE_LEASE, hold_lease, lease_lost, require_lease
from contlearn.catalog.parts import next_part
from contlearn.catalog.records import (
    RecordCounts,
    count_looks,
    count_records,
    plan_records,
)
from contlearn.context import Context
from contlearn.cycle.changes import mend
from contlearn.cycle.disk import require_space
from contlearn.cycle.forecast import Forecast, forecast_cycle
from contlearn.cycle.job import STAGES, CycleFolder, Job
from contlearn.cycle.outcome import UpdateResult
from contlearn.cycle.repeating import check_run_key, note_nothing, recorded_result
from contlearn.cycle.same_model import check_same_model
from contlearn.cycle.scanning import scan_in_child
from contlearn.cycle.settling import Settlement
from contlearn.cycle.taken import refused_files
from contlearn.cycle.triggers import ASKED, BY_HAND, PART, RESUME
from contlearn.data.intake.inbox import inbox_files
from contlearn.errors import (
    CatalogUnreachable,
    ContlearnError,
    LeaseLost,
    StorageError,
    TrainingError,
    UsageError,
)
from contlearn.interfaces import Progress, no_progress
from contlearn.papers.report import measured_by
from contlearn.processes.children import (
    ChildLimits,
    ChildStopped,
    MustStop,
    progress_of,
    run_child,
)
from contlearn.redaction import redact_config
from contlearn.registry.anchors import anchor_of, last_reset
from contlearn.types import Anchor
from contlearn.workspace import narrow, storage_border

__all__ = ["UpdateCycle"]

_log: Final = logging.getLogger("contlearn.cycle")
# Between two looks for a catalog's server that went away.
_AWAY_SECONDS: Final = 1.0
# A cycle whose parent was lost this often is given up: something in it takes the machine down.
MAX_PARENTS: Final = 5


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a run was asked for; `strategy` is None where it was not named."""

    trigger: str
    run_key: str | None
    strategy: str | None
    promote: bool

    @property
    def is_by_hand(self) -> bool:
        """Whether somebody waits for it."""
        return self.trigger in BY_HAND

    def require_planned(self, cycle: CycleRow) -> None:
        """See that the interrupted cycle, which comes first, does nothing else than was asked for.

        Another run's (of another key) may learn as it was planned, for this one's follows; it may
        not promote where nothing is to be promoted.

        Raises:
            UsageError: When it was planned otherwise.
        """
        if not self.is_by_hand:
            return
        found = {}
        if self.strategy not in (None, cycle.strategy) and self.run_key in (None, cycle.run_key):
            found["--strategy"] = f"learns with {cycle.strategy!r}, not with {self.strategy!r}"
        if cycle.promote and not self.promote:
            found["--no-promote"] = "promotes its challenger if the gate allows"
        if found:
            raise UsageError(
                f"The cycle {cycle.cycle_id} was interrupted and comes first: it "
                f"{' and '.join(found.values())}.",
                where=", ".join(found),
                hint="`contlearn update` finishes it as it was planned; then ask again.",
            )


@dataclass
class UpdateCycle:
    """One update of one workspace.

    Args:
        context: The opened workspace.
        progress: Called with (stage, done, total, message).
        must_stop: Says when to end the child; the cycle is taken up again by the next run.
        child: The module that does the work, run as a process of its own.
        scan: Takes in the inbox; called as `scan_in_child`.
    """

    context: Context
    progress: Progress = no_progress
    must_stop: MustStop | None = None
    child: str = "contlearn.training"
    scan: Callable[..., dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        # Set when another process has taken the lease over, or may have.
        self._lost = threading.Event()
        self._token = 0
        self._shown_at = float("-inf")

    def _is_asked_to_stop(self) -> bool:
        return self.must_stop is not None and self.must_stop()

    def _must_stop(self) -> bool:
        """Say whether the work must stop: on request, or because the lease is lost."""
        return self._lost.is_set() or self._is_asked_to_stop()

    def run_once(
        self,
        *,
        trigger: str = "manual",
        run_key: str | None = None,
        strategy: str | None = None,
        force: bool = False,
        promote: bool = True,
        dry_run: bool = False,
    ) -> UpdateResult:
        """Run one cycle to its end, or take up the one that was interrupted.

        Args:
            trigger: Why it starts; kept with the cycle.
            run_key: A name for the cause; the same cause starts one cycle only. Asked again by
                hand with it, the answer is how that one ended, and nothing is run.
            strategy: Another strategy than the configured one.
            force: Allow a strategy that reads the whole history.
            promote: False registers the challenger and leaves the champion.
            dry_run: Only say what would be done.
        Raises:
            WorkspaceLocked: When another process is updating.
            LeaseLost: When this process stood still, and another may have taken the cycle over.
            UsageError: When a strategy needs `force`, or, by hand, when an interrupted cycle comes
                first that was planned otherwise.
            ConfigError: When a key describes another model than the champion, which would go on.
            ChildStopped: When `must_stop` said so.
        """
        context = self.context
        name = strategy or context.config.training.strategy
        implementation = context.manager.get("strategy", name, where="--strategy")
        if implementation.reads_history and not force:
            raise UsageError(
                f"The strategy {name!r} reads the whole history: its cost grows with every update.",
                where="--strategy",
                hint="Add --force to run it once, or compare it with `contlearn bench strategies`.",
            )
        asked = _Asked(trigger, run_key, strategy, promote)
        if run_key is not None and asked.is_by_hand:
            check_run_key(run_key)
            ended = recorded_result(context.catalog, run_key)
            if ended is not None and not dry_run:
                return ended
            if ended is not None:
                said = f"This run key has had its cycle ({ended.outcome}); nothing would be run."
                return UpdateResult(cycle=None, outcome="nothing-to-do", message=said)
        if dry_run:
            return self._dry_run(asked, name)
        update = context.config.update
        self._lost.clear()
        with hold_lease(
            context.catalog,
            CYCLE_LEASE,
            purpose="updating",
            seconds=update.lease_seconds,
            heartbeat_seconds=update.heartbeat_seconds,
            lost=self._lost,
        ) as self._token:
            try:
                return self._run(asked, name)
            except ChildStopped:
                if self._is_asked_to_stop():
                    raise
                raise lease_lost(context.catalog, CYCLE_LEASE) from None

    def _run(self, asked: _Asked, strategy: str) -> UpdateResult:
        """Take up what was interrupted, else take in, plan and drive a cycle; the lease is held."""
        context = self.context
        scan = self.scan or scan_in_child
        trigger, run_key, by_hand = asked.trigger, asked.run_key, asked.is_by_hand
        mend(context)
        with context.catalog.read() as connection:
            interrupted = unfinished_cycle(connection)
        if interrupted is not None:
            asked.require_planned(interrupted)
            result = self._drive(interrupted, resumed=True)
            if run_key is None or not by_hand or interrupted.run_key == run_key:
                return replace(result, run_key=run_key)
            # Another run's cycle was finished first; this one has not begun yet.
        if run_key is not None and by_hand:
            ended = recorded_result(context.catalog, run_key)
            if ended is not None:  # it ended while this process waited for the lease
                return ended
        if trigger == RESUME:
            # Another was faster. There is no cause to begin anything.
            return UpdateResult(
                cycle=None, outcome="nothing-to-do", message="Nothing is interrupted any more."
            )
        warnings = check_same_model(context, strategy)
        report = scan(context, progress=self.progress, must_stop=self._must_stop)
        refused = refused_files(report)
        if report.get("waiting") and by_hand:
            # Somebody dropped a file a moment ago and now asks: give it its time to rest.
            context.clock.sleep(context.config.data.rest_seconds + 0.1)
            later = refused_files(scan(context, progress=self.progress, must_stop=self._must_stop))
            refused += [file for file in later if file not in refused]
        require_space(context)
        forecast = self._forecast(strategy)
        self._require_lease()
        cycle = self._plan(asked, strategy, forecast)
        if cycle is None:
            message = self._why_nothing(trigger)
            if run_key is not None and by_hand:
                note_nothing(context.catalog, run_key, message)
            return UpdateResult(
                cycle=None,
                outcome="nothing-to-do",
                message=message,
                run_key=run_key,
                warnings=warnings,
                refused_files=tuple(refused),
            )
        if forecast is not None:
            self.progress("planning", 1, 1, str(forecast))
        result = self._drive(cycle, resumed=False)
        return replace(
            result,
            forecast=forecast.to_json() if forecast else None,
            run_key=run_key,
            warnings=(*warnings, *result.warnings),
            refused_files=tuple(refused),
        )

    def _require_lease(self) -> None:
        """Go on only as the one who may: what follows is done once."""
        if self._lost.is_set():
            raise lease_lost(self.context.catalog, CYCLE_LEASE)
        require_lease(self.context.catalog, CYCLE_LEASE, self._token)

    def _forecast(self, strategy: str) -> Forecast | None:
        """Say what the cycle will cost; a damaged champion is found by the cycle itself."""
        try:
            return forecast_cycle(self.context, strategy=strategy)
        except ContlearnError:
            return None

    def _dry_run(self, asked: _Asked, strategy: str) -> UpdateResult:
        with self.context.catalog.read() as connection:
            interrupted, counts = unfinished_cycle(connection), count_records(connection)
        warnings = () if interrupted is not None else check_same_model(self.context, strategy)
        files = len(inbox_files(self.context.workspace))
        if interrupted is not None:
            asked.require_planned(interrupted)
            message = (
                f"The interrupted cycle {interrupted.cycle_id} would be taken up in the state "
                f"{interrupted.state}."
            )
        elif counts.to_learn == 0 and not files:
            message = self._why_nothing()
            if counts.suspected and not counts.awaiting:
                message = (
                    f"{counts.suspected} records made updates fail; one part of them would be "
                    "tried by itself."
                )
        else:
            forecast = self._forecast(strategy)
            cost = f" ({forecast})" if forecast is not None else ""
            message = (
                f"{counts.pending - counts.suspected} records would be learnt with {strategy!r} "
                f"and {counts.held_out_pending} new rows measured on{cost}."
                + (f" Before that, {files} files of the inbox would be taken in." if files else "")
            )
        return UpdateResult(cycle=None, outcome="nothing-to-do", message=message, warnings=warnings)

    def _why_nothing(self, trigger: str = "manual") -> str:
        with self.context.catalog.read() as connection:
            counts: RecordCounts = count_records(connection)
            waiting = waiting_cycle(connection)
        if counts.awaiting and waiting is not None:
            return (
                f"Version {waiting.version} has learnt what is there and waits for approval: "
                f"`contlearn promote {waiting.version}`."
            )
        if counts.kept and trigger not in ASKED:
            return (
                f"{counts.kept} records are kept for the next update; they are learnt with what "
                "comes next, or at once by `contlearn update`."
            )
        if counts.held:
            return (
                f"No record is waiting to be learnt; {counts.held} are held "
                "(`contlearn data release` lets them take part again)."
            )
        return (
            "No record is waiting to be learnt. Drop labelled files into "
            f"{self.context.workspace.inbox}, or run `contlearn ingest FILE`."
        )

    def _plan(self, asked: _Asked, strategy: str, forecast: Forecast | None) -> CycleRow | None:
        context = self.context
        champion = context.registry.champion()
        lineage = _lineage(context, champion)
        with context.catalog.write() as connection:
            part, waiting = None, waiting_cycle(connection)
            counts = count_records(connection)
            # Nobody asked: records that were kept wait until others come.
            ready = counts.to_learn if asked.trigger in ASKED else counts.fresh
            if asked.trigger == PART or ready == 0:
                # One part of what made updates fail, by itself; never in place of a challenger
                # that awaits approval, as it would not contain what that one learnt.
                part = next_part(connection) if waiting is None else None
                if part is None:
                    return None
            if waiting is not None:
                # The new challenger will contain what the waiting one learnt.
                change_cycle(
                    connection,
                    waiting.cycle_id,
                    state="not-promoted",
                    outcome="not-promoted",
                    ended_at=waiting.ended_at or context.clock.now().isoformat(),
                    error="Superseded by a later update before it was approved.",
                )
            cycle_id = create_cycle(
                connection,
                trigger=asked.trigger,
                run_key=asked.run_key,
                strategy=strategy,
                champion=champion,
                experience=len(lineage),
                promote=asked.promote,
                now=context.clock.now(),
            )
            if cycle_id is None:
                return None
            numbers: dict[str, object] = {}
            if champion is not None:
                numbers["anchor"] = _anchor(context, champion, connection).to_json()
            if looks := count_looks(connection, part=part):
                numbers["looks"] = looks + 1  # this one included
            plan_records(connection, cycle_id, part=part)
            if forecast is not None and part is None:
                # What it set out to do is kept beside what it will have taken.
                numbers["planned"] = asdict(forecast.work)
            if numbers:
                change_cycle(connection, cycle_id, numbers=numbers)
            cycle = get_cycle(connection, cycle_id)
        context.emit("cycle-started", cycle=cycle_id, trigger=asked.trigger, strategy=strategy)
        return cycle

    def _drive(self, cycle: CycleRow, *, resumed: bool) -> UpdateResult:
        """Take a cycle from the state it is in to its end.

        A catalog's server that went away in the middle is waited for. Whether the last transaction
        counted is read anew, and the cycle is taken up from there, as after a kill.
        """
        context = self.context
        folder = CycleFolder(context.workspace.cycles / cycle.cycle_id)
        started = context.clock.monotonic()
        while True:
            settlement = Settlement(context, cycle)
            try:
                result = self._go_on(cycle, folder, settlement)
                break
            except CatalogUnreachable as error:
                cycle = self._find_again(cycle, error)
        seconds = context.clock.monotonic() - started
        if not resumed:
            settlement.keep_seconds(seconds)
        context.emit(
            "cycle-ended", cycle=cycle.cycle_id, outcome=result.outcome, version=result.version
        )
        settlement.clean(folder)
        return replace(
            result,
            seconds=seconds,
            resumed=resumed,
            **measured_by(context.task.metrics, context.task.primary_metric),
        )

    def _find_again(self, cycle: CycleRow, error: CatalogUnreachable) -> CycleRow:
        """Wait for the catalog's server as long as the lease may outlive it, and read the cycle.

        Raises:
            CatalogUnreachable: When the server does not come back; the cycle stays unfinished.
            LeaseLost: When another may have taken the cycle over meanwhile.
        """
        context = self.context
        _log.warning("catalog away", extra={"cycle": cycle.cycle_id, **error.to_json()})
        left = context.config.update.lease_seconds
        while True:
            try:
                self._require_lease()
                with context.catalog.read() as connection:
                    found = get_cycle(connection, cycle.cycle_id)
            except CatalogUnreachable:
                if left <= 0 or self._is_asked_to_stop():
                    raise
                context.clock.sleep(_AWAY_SECONDS)
                left -= _AWAY_SECONDS
            else:
                if found is None:
                    raise error
                return found

    def _go_on(self, cycle: CycleRow, folder: CycleFolder, settlement: Settlement) -> UpdateResult:
        """Take a cycle from the state it is in as far as it goes."""
        context = self.context
        if cycle.outcome is not None:
            return settlement.ended()
        try:
            with context.catalog.write() as connection:
                change_cycle(connection, cycle.cycle_id, attempts=cycle.attempts + 1)
            if cycle.attempts >= MAX_PARENTS:
                raise TrainingError(
                    f"The cycle was interrupted {cycle.attempts} times and is given up.",
                    where=str(folder.log),
                    hint="Its records are pending again; look at the log before the next update.",
                )
            if cycle.state != "promoting":
                self._prepare(cycle, folder)
                self._run_stages(cycle, folder, settlement)
                self._require_lease()
                return settlement.decide(folder)
            return settlement.promote()
        except (ChildStopped, LeaseLost, CatalogUnreachable):
            raise
        except (ContlearnError, OSError) as error:
            # What another drives now must not be called failed from here.
            with contextlib.suppress(StorageError):
                self._require_lease()
            return settlement.fail(error)

    def _prepare(self, cycle: CycleRow, folder: CycleFolder) -> None:
        """Write the job down once; a resumed cycle keeps the configuration it was planned with."""
        context = self.context
        if folder.job.exists():
            return
        with storage_border("make the cycle's folder", folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            if not context.workspace.text_mode() & 0o044:
                # Checkpoints and the log are made of texts that nobody else may read.
                narrow(folder.path, 0o700)
        Job(
            cycle_id=cycle.cycle_id,
            # Whom to tell is nobody's business who reads a version's manifest, nor are passwords:
            # the child gets those through its environment.
            config=redact_config(context.config.model_dump(mode="json", exclude={"notifications"})),
            strategy=cycle.strategy,
            champion=cycle.champion,
            experience=cycle.experience,
            lineage=_lineage(context, cycle.champion),
            anchor=(cycle.numbers or {}).get("anchor"),
        ).save(folder)

    def _run_stages(self, cycle: CycleRow, folder: CycleFolder, settlement: Settlement) -> None:
        """Let the child train, export, score and judge; a finished one is not run again."""
        if folder.result.exists():
            return
        settings = self.context.config.daemon
        state = cycle.state

        def hear(message: Mapping[str, Any]) -> None:
            nonlocal state
            step = progress_of(message)
            if step is None or step[0] not in STAGES:
                return  # of a library that prints JSON to standard output
            stage = step[0]
            if stage != state:
                state = stage  # type: ignore[assignment]  # one of the literals, just checked
                settlement.enter(stage)
            self.progress(*step)
            self._show(folder, *step)

        with storage_border("run the cycle", folder.path):
            end = run_child(
                self.child,
                [str(folder.path)],
                log=folder.log,
                on_message=hear,
                must_stop=self._must_stop,
                grace_seconds=settings.grace_seconds,
                environ=self.context.for_children(),
                limits=ChildLimits(
                    memory_bytes=settings.memory_bytes,
                    seconds=settings.update_time,
                    stuck_seconds=settings.stuck_time,
                    # Somebody who waits for it does not want it to step back.
                    nice=0 if cycle.trigger in BY_HAND else settings.nice,
                    threads=settings.threads,
                    log_bytes=self.context.config.retention.log_bytes,
                ),
            )
        if end.returncode == 0 and folder.result.exists():
            return
        if end.failure is not None:
            raise end.failure
        last = end.log_tail.strip().splitlines()[-1:] or [""]
        raise TrainingError(
            f"{end.explain()} {last[0]}".strip(),
            where=str(folder.log),
            hint="The log has the details; the records are pending again.",
        )

    def _show(self, folder: CycleFolder, stage: str, done: int, total: int, words: str) -> None:
        """Leave the progress where `status` finds it, at most once a second."""
        now = self.context.clock.monotonic()
        if now - self._shown_at < 1.0:
            return
        self._shown_at = now
        value = {"stage": stage, "done": done, "total": total, "message": words}
        # Only for looking at, so it need not survive a power cut: no flush to the disk.
        with contextlib.suppress(OSError):
            temporary = folder.progress.with_suffix(".tmp")
            temporary.write_text(json.dumps(value), encoding="utf-8")
            temporary.replace(folder.progress)


def _lineage(context: Context, champion: int | None) -> tuple[str, ...]:
    """Give the cycles whose experiences the champion has learnt, oldest first."""
    if champion is None:
        return ()
    version = context.registry.get(champion)
    return version.manifest.lineage.experiences


def _anchor(context: Context, champion: int, connection: Connection) -> Anchor:
    """Give the best proven version of the champion's lineage, and the look that comes next."""
    reset = last_reset(context.registry)
    number = 0 if reset is None else reset.number
    return Anchor(
        version=anchor_of(context.registry, champion),
        look=next_look(connection, number),
        reset=number,
    )
