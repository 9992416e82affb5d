"""The update cycle, seen from the parent: plan, run the child, decide, promote, settle.

    planned → training → exporting → evaluating → deciding → awaiting-approval
                                                           | promoting → promoted
                                                           | refused | not-promoted | failed

Each state is one transaction; a cycle found unfinished is taken up where it stands.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from contlearn.catalog.cycles import (
    CycleRow,
    change_cycle,
    create_cycle,
    get_cycle,
    unfinished_cycle,
    waiting_cycle,
)
from contlearn.catalog.leases import hold_lease
from contlearn.catalog.parts import Apart, free_part, next_part, settle_failed
from contlearn.catalog.records import (
    RecordCounts,
    count_records,
    plan_records,
    settle_learnt,
    settle_refused,
)
from contlearn.errors import ContlearnError, RegistryError, TrainingError, UsageError
from contlearn.interfaces import Progress, no_progress
from contlearn.pipeline.changes import mend, promote_version
from contlearn.pipeline.children import (
    ChildLimits,
    ChildStopped,
    StopFlag,
    error_from_json,
    run_child,
)
from contlearn.pipeline.context import Context
from contlearn.pipeline.forecast import Forecast, forecast_cycle
from contlearn.pipeline.housekeeping import require_space
from contlearn.pipeline.job import STAGES, CycleFolder, Job
from contlearn.pipeline.report import publish_report, remove_old_reports
from contlearn.pipeline.triggers import BY_HAND, PART
from contlearn.registry.retention import apply_retention
from contlearn.types import CycleOutcome
from contlearn.workspace import read_json, storage_border

__all__ = ["CYCLE_LEASE", "UpdateCycle", "UpdateResult", "scan_in_child"]

CYCLE_LEASE: Final = "update"
_log: Final = logging.getLogger("contlearn.cycle")
# A cycle whose parent was lost this often is given up: something in it takes the machine down.
MAX_PARENTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What `update` says: the outcome, the gate's reasons, the challenger's measures."""

    cycle: str | None
    outcome: CycleOutcome
    version: int | None = None
    reasons: tuple[Mapping[str, Any], ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""
    resumed: bool = False
    error: ContlearnError | None = None
    held: int = 0
    suspected: int = 0
    forecast: Mapping[str, object] | None = None
    trained_share: float | None = None
    search: Mapping[str, Any] | None = None

    @property
    def exit_code(self) -> int:
        """0 when done, 3 when the gate refused, else the error's code."""
        if self.outcome == "failed":
            return self.error.exit_code if self.error is not None else 1
        return 3 if self.outcome == "refused" else 0

    def to_json(self) -> dict[str, object]:
        """Give the fields of `update --json`."""
        value: dict[str, object] = {
            "cycle": self.cycle,
            "outcome": self.outcome,
            "version": self.version,
            "reasons": [dict(reason) for reason in self.reasons],
            "metrics": dict(self.metrics),
            "seconds": round(self.seconds, 3),
            "message": self.message,
            "resumed": self.resumed,
            "forecast": dict(self.forecast) if self.forecast else None,
            "trained_share": self.trained_share,
            "search": dict(self.search) if self.search else None,
        }
        if self.error is not None:
            value["error"] = self.error.to_json()
        return value


@dataclass
class UpdateCycle:
    """One update of one workspace.

    Args:
        context: The opened workspace.
        progress: Called with (stage, done, total, message).
        stop: Set from outside to end the child; the cycle is taken up again by the next run.
        plugins_dir: A folder of loose plugin files that the child must load too.
        child: The module that does the work, run as a process of its own.
        scan: Takes in the inbox; called as `scan_in_child`.
    """

    context: Context
    progress: Progress = no_progress
    stop: StopFlag | None = None
    plugins_dir: Path | None = None
    child: str = "contlearn.training"
    scan: Callable[..., dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        # Set when another process has taken the lease over.
        self._lost = threading.Event()
        self._shown_at = float("-inf")

    def is_set(self) -> bool:
        """Say whether the work must stop: on request, or because the lease is lost."""
        return self._lost.is_set() or (self.stop is not None and self.stop.is_set())

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
            run_key: A name for the cause; the same cause starts one cycle only.
            strategy: Another strategy than the configured one.
            force: Allow a strategy that reads the whole history.
            promote: False registers the challenger and leaves the champion.
            dry_run: Only say what would be done.
        Raises:
            WorkspaceLocked: When another process is updating.
            UsageError: When a strategy needs `force`, or an interrupted cycle stands in the way.
            ChildStopped: When `stop` was set.
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
        if dry_run:
            return self._dry_run(name)
        update = context.config.update
        scan = self.scan or partial(scan_in_child, plugins_dir=self.plugins_dir)
        with hold_lease(
            context.catalog,
            CYCLE_LEASE,
            purpose="updating",
            seconds=update.lease_seconds,
            heartbeat_seconds=update.heartbeat_seconds,
            lost=self._lost,
        ):
            mend(context)
            with context.catalog.read() as connection:
                interrupted = unfinished_cycle(connection)
            if interrupted is not None:
                return self._drive(interrupted, resumed=True)
            report = scan(context, progress=self.progress, stop=self)
            if report.get("waiting") and trigger in BY_HAND:
                # Somebody dropped a file a moment ago and now asks: give it its time to rest.
                context.clock.sleep(context.config.data.rest_seconds + 0.1)
                scan(context, progress=self.progress, stop=self)
            require_space(context)
            forecast = self._forecast(name)
            cycle = self._plan(trigger, run_key, name, promote=promote)
            if cycle is None:
                return UpdateResult(
                    cycle=None, outcome="nothing-to-do", message=self._why_nothing()
                )
            if forecast is not None:
                self.progress("planning", 1, 1, str(forecast))
            result = self._drive(cycle, resumed=False)
            return replace(result, forecast=forecast.to_json() if forecast else None)

    def _forecast(self, strategy: str) -> Forecast | None:
        """Say what the cycle will cost; a damaged champion is found by the cycle itself."""
        try:
            return forecast_cycle(self.context, strategy=strategy)
        except ContlearnError:
            return None

    def _dry_run(self, strategy: str) -> UpdateResult:
        with self.context.catalog.read() as connection:
            interrupted, counts = unfinished_cycle(connection), count_records(connection)
        files = sum(1 for _ in _visible_files(self.context.workspace))
        if interrupted is not None:
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
                f"{counts.pending} records would be learnt with {strategy!r} and "
                f"{counts.held_out_pending} new rows measured on{cost}."
                + (f" Before that, {files} files of the inbox would be taken in." if files else "")
            )
        return UpdateResult(cycle=None, outcome="nothing-to-do", message=message)

    def _why_nothing(self) -> str:
        with self.context.catalog.read() as connection:
            counts: RecordCounts = count_records(connection)
            waiting = waiting_cycle(connection)
        if counts.awaiting and waiting is not None:
            return (
                f"Version {waiting.version} has learnt what is there and waits for approval: "
                f"`contlearn promote {waiting.version}`."
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

    def _plan(
        self, trigger: str, run_key: str | None, strategy: str, *, promote: bool
    ) -> CycleRow | None:
        context = self.context
        champion = context.registry.champion()
        lineage = _lineage(context, champion)
        with context.catalog.write() as connection:
            part, waiting = None, waiting_cycle(connection)
            if trigger == PART or count_records(connection).to_learn == 0:
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
                    error="Superseded by a later update before it was approved.",
                )
            cycle_id = create_cycle(
                connection,
                trigger=trigger,
                run_key=run_key,
                strategy=strategy,
                champion=champion,
                experience=len(lineage),
                promote=promote,
                now=context.clock.now(),
            )
            if cycle_id is None:
                return None
            plan_records(connection, cycle_id, part=part)
            cycle = get_cycle(connection, cycle_id)
        context.emit("cycle-started", cycle=cycle_id, trigger=trigger, strategy=strategy)
        return cycle

    def _drive(self, cycle: CycleRow, *, resumed: bool) -> UpdateResult:
        """Take a cycle from the state it is in to its end."""
        context = self.context
        folder = CycleFolder(context.workspace.cycles / cycle.cycle_id)
        started = context.clock.monotonic()
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
                self._run_stages(cycle, folder)
                result = self._decide(cycle, folder)
            else:
                result = self._promote(cycle)
        except ChildStopped:
            raise
        except (ContlearnError, OSError) as error:
            result = self._fail(cycle, error)
        seconds = context.clock.monotonic() - started
        context.emit(
            "cycle-ended", cycle=cycle.cycle_id, outcome=result.outcome, version=result.version
        )
        self._clean(folder)
        return UpdateResult(
            cycle=cycle.cycle_id,
            outcome=result.outcome,
            version=result.version,
            reasons=result.reasons,
            metrics=result.metrics,
            seconds=seconds,
            message=result.message,
            resumed=resumed,
            error=result.error,
            held=result.held,
            suspected=result.suspected,
            trained_share=result.trained_share,
            search=result.search,
        )

    def _prepare(self, cycle: CycleRow, folder: CycleFolder) -> None:
        """Write the job down once; a resumed cycle keeps the configuration it was planned with."""
        context = self.context
        if folder.job.exists():
            return
        with storage_border("make the cycle's folder", folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        Job(
            cycle_id=cycle.cycle_id,
            workspace=str(context.workspace.root),
            # Whom to tell is nobody's business who reads a version's manifest.
            config=context.config.model_dump(mode="json", exclude={"notifications"}),
            strategy=cycle.strategy,
            champion=cycle.champion,
            experience=cycle.experience,
            lineage=_lineage(context, cycle.champion),
            plugins_dir=str(self.plugins_dir) if self.plugins_dir else None,
        ).save(folder)

    def _run_stages(self, cycle: CycleRow, folder: CycleFolder) -> None:
        """Let the child train, export, score and judge; a finished one is not run again."""
        if folder.result.exists():
            return
        settings = self.context.config.daemon
        state = cycle.state

        def hear(message: Mapping[str, Any]) -> None:
            nonlocal state
            stage = str(message.get("stage"))
            if stage in STAGES and stage != state:
                state = stage  # type: ignore[assignment]  # one of the literals, just checked
                self._enter(cycle.cycle_id, stage)
            done, total = int(message.get("done", 0)), int(message.get("total", 0))
            words = str(message.get("message", ""))
            self.progress(stage, done, total, words)
            self._show(folder, stage, done, total, words)

        with storage_border("run the cycle", folder.path):
            end = run_child(
                self.child,
                [str(folder.path)],
                log=folder.log,
                on_message=hear,
                stop=self,
                grace_seconds=settings.grace_seconds,
                limits=ChildLimits(
                    memory_bytes=settings.memory_bytes,
                    seconds=settings.update_time,
                    stuck_seconds=settings.stuck_time,
                    # Somebody who waits for it does not want it to step back.
                    nice=0 if cycle.trigger in BY_HAND else settings.nice,
                    threads=settings.threads,
                ),
            )
        if end.returncode == 0 and folder.result.exists():
            return
        if folder.error.exists():
            raise error_from_json(read_json(folder.error))
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

    def _enter(self, cycle_id: str, state: str, **values: object) -> None:
        with self.context.catalog.write() as connection:
            change_cycle(connection, cycle_id, state=state, **values)
        version = values.get("version")
        _log.info("cycle state", extra={"cycle": cycle_id, "state": state, "version": version})
        self.context.emit("cycle-state", cycle=cycle_id, state=state)

    def _decide(self, cycle: CycleRow, folder: CycleFolder) -> UpdateResult:
        """Register the challenger, and go the way the gate showed."""
        context = self.context
        result = read_json(folder.result)
        decision, facts = result["decision"], result["facts"]
        if cycle.state != "deciding":
            self._enter(cycle.cycle_id, "deciding")
        version = context.registry.find_by_cycle(cycle.cycle_id)
        if version is None:
            version = context.registry.register(
                folder.version, cycle_id=cycle.cycle_id, parent=cycle.champion, facts=facts
            )
        with contextlib.suppress(ContlearnError, OSError):
            # A page that cannot be written stops no promotion; `make_report` makes it anew.
            publish_report(context.workspace, folder.page, version.version)
        with context.catalog.write() as connection:
            free_part(connection, cycle.cycle_id)  # it could be learnt, whatever the gate says
        passed = bool(decision["promoted"])
        values = {
            "version": version.version,
            "reasons": decision["outcomes"],
            "metrics": facts["metrics"],
            "numbers": result["numbers"],
        }
        if not passed:
            return self._end_refused(cycle, values)
        if not cycle.promote:
            return self._end(cycle, "not-promoted", values)
        if context.config.gate.approval == "manual":
            self._enter(cycle.cycle_id, "awaiting-approval", outcome="awaiting-approval", **values)
            return self._result(cycle, "awaiting-approval")
        self._enter(cycle.cycle_id, "promoting", **values)
        return self._promote(cycle)

    def _promote(self, cycle: CycleRow) -> UpdateResult:
        """Make the challenger champion, if the champion is still the one it was compared with."""
        context = self.context
        with context.catalog.read() as connection:
            row = get_cycle(connection, cycle.cycle_id)
        if row is None or row.version is None:
            raise RegistryError(
                f"The cycle {cycle.cycle_id} has no registered version to promote.",
                where="the catalog",
                hint="Run `contlearn update` again.",
            )
        champion = context.registry.champion()
        if champion not in (cycle.champion, row.version):
            return self._end(
                cycle,
                "not-promoted",
                {"error": "The champion was changed by hand while the challenger was being made."},
            )
        promote_version(context, row.version, actor=context.actor, reason=f"cycle {cycle.cycle_id}")
        with context.catalog.write() as connection:
            settle_learnt(connection, cycle.cycle_id)
            change_cycle(
                connection,
                cycle.cycle_id,
                state="promoted",
                outcome="promoted",
                ended_at=context.clock.now().isoformat(),
            )
        return self._result(cycle, "promoted")

    def _end_refused(self, cycle: CycleRow, values: Mapping[str, object]) -> UpdateResult:
        reasons = [r for r in values["reasons"] if r["passed"] is False]  # type: ignore[attr-defined]  # a JSON list
        why = " ".join(str(reason["message"]) for reason in reasons) or "refused by the gate"
        with self.context.catalog.write() as connection:
            held = settle_refused(connection, cycle.cycle_id, why)
            change_cycle(
                connection,
                cycle.cycle_id,
                state="refused",
                outcome="refused",
                ended_at=self.context.clock.now().isoformat(),
                **values,
            )
        message = (
            f"{held} records were refused twice and are held (`contlearn data release` lets them "
            "take part again)."
            if held
            else "The records take part in the next update once more."
        )
        return self._result(cycle, "refused", message=message)

    def _end(
        self, cycle: CycleRow, outcome: CycleOutcome, values: Mapping[str, object]
    ) -> UpdateResult:
        with self.context.catalog.write() as connection:
            change_cycle(
                connection,
                cycle.cycle_id,
                state=outcome,
                outcome=outcome,
                ended_at=self.context.clock.now().isoformat(),
                **values,
            )
        return self._result(cycle, outcome)

    def _fail(self, cycle: CycleRow, error: ContlearnError | OSError) -> UpdateResult:
        """Write the failure down; the records stay open and the champion stays as it is."""
        if not isinstance(error, ContlearnError):
            error = TrainingError(
                f"The update failed: {error}.",
                where=str(error.filename) if error.filename else None,
                hint="Mend the cause and run `contlearn update` again; nothing was lost.",
            )
        settings, apart, kind = self.context.config.daemon, Apart(), type(error).__name__
        # With a full disk even this may fail; then the next update takes the cycle up again.
        with contextlib.suppress(ContlearnError), self.context.catalog.write() as connection:
            change_cycle(
                connection,
                cycle.cycle_id,
                state="failed",
                outcome="failed",
                ended_at=self.context.clock.now().isoformat(),
                error=str(error),
                numbers={"error_kind": kind},
            )
            apart = settle_failed(
                connection,
                cycle.cycle_id,
                failures=settings.poison_failures,
                divisions=settings.poison_divisions,
                kind=kind,
                why=error.what,
            )
            if apart:  # what failed is out of the way: no reason to wait before the rest
                change_cycle(
                    connection, cycle.cycle_id, numbers={"error_kind": kind, "apart": True}
                )
        message = _say_apart(apart)
        if apart.held:
            self.context.emit(
                "records-held", cycle=cycle.cycle_id, records=apart.held, reason=message
            )
        return UpdateResult(
            cycle=cycle.cycle_id,
            outcome="failed",
            error=error,
            message=message,
            held=apart.held,
            suspected=apart.suspected,
        )

    def _result(self, cycle: CycleRow, outcome: CycleOutcome, *, message: str = "") -> UpdateResult:
        with self.context.catalog.read() as connection:
            row = get_cycle(connection, cycle.cycle_id)
        if row is None:
            raise RegistryError(f"The cycle {cycle.cycle_id} is gone.", where="the catalog")
        return UpdateResult(
            cycle=cycle.cycle_id,
            outcome=outcome,
            version=row.version,
            reasons=tuple(row.reasons or ()),
            metrics=row.metrics or {},
            trained_share=(row.numbers or {}).get("trained_share"),
            search=(row.numbers or {}).get("search"),
            message=message or (row.error or ""),
        )

    def _clean(self, folder: CycleFolder) -> None:
        """Drop checkpoints and versions that nobody will read again; logs and numbers stay."""
        with self.context.catalog.read() as connection:
            waiting = waiting_cycle(connection)
        protected = [waiting.version] if waiting is not None and waiting.version else []
        # A version that cannot be deleted now is deleted by the next cycle.
        with contextlib.suppress(ContlearnError):
            apply_retention(self.context.registry, actor=self.context.actor, protected=protected)
        with contextlib.suppress(ContlearnError, OSError):
            remove_old_reports(self.context.workspace, self.context.registry.numbers())
        for path in (folder.work, folder.version):
            with contextlib.suppress(OSError):
                shutil.rmtree(path)
        keep = self.context.config.retention.cycles
        with contextlib.suppress(OSError):
            old = sorted(p for p in folder.path.parent.iterdir() if p.is_dir())[:-keep]
            for path in old:
                shutil.rmtree(path, ignore_errors=True)


def _say_apart(apart: Apart) -> str:
    """Say what a failure made of its records; nothing when they take part as before."""
    said = []
    if apart.held:
        said.append(
            f"{apart.held} records made updates fail and are held "
            "(`contlearn data release` lets them take part again)."
        )
    if apart.suspected:
        said.append(f"{apart.suspected} records are tried by themselves, part by part.")
    return " ".join(said)


def _lineage(context: Context, champion: int | None) -> tuple[str, ...]:
    """Give the cycles whose experiences the champion has learnt, oldest first."""
    if champion is None:
        return ()
    version = context.registry.get(champion)
    return tuple(version.manifest["lineage"]["experiences"])


def scan_in_child(
    context: Context,
    *,
    progress: Progress = no_progress,
    stop: StopFlag | None = None,
    plugins_dir: Path | None = None,
) -> dict[str, Any]:
    """Take in what rests in the inbox and what sources are due, in a child.

    So this process stays small.

    Returns:
        The ingest report; empty when there is nothing to do.
    Raises:
        ContlearnError: When the child could not do its work.
    """
    if not any(_visible_files(context.workspace)) and not _sources_are_due(context):
        return {}
    report: dict[str, Any] = {}

    def hear(message: Mapping[str, Any]) -> None:
        if "stage" in message:
            progress("ingesting", int(message["done"]), int(message["total"]), "")
        else:
            report.update(message)

    log = context.workspace.state / "ingest.log"
    end = run_child(
        "contlearn.data",
        [str(context.workspace.root), *([str(plugins_dir)] if plugins_dir else [])],
        log=log,
        on_message=hear,
        stop=stop,
        environ=context.for_children(),
    )
    if "error" in report:
        raise error_from_json(report)
    if end.returncode not in (0, 1) or not report:
        raise TrainingError(
            f"Taking in the inbox failed. {end.explain()}",
            where=str(log),
            hint="The files are still there; the log has the details.",
        )
    context.emit(
        "ingested", **{k: report.get(k, 0) for k in ("accepted", "duplicates", "rejected")}
    )
    return report


def _visible_files(workspace: Any) -> Iterator[Path]:
    for folder in (workspace.inbox, workspace.claimed):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if not entry.name.startswith(".") and not entry.name.endswith((".part", ".tmp")):
                    yield Path(entry.path)


def _sources_are_due(context: Context) -> bool:
    if not context.config.sources:
        return False
    from contlearn.data.sources import due_sources

    return bool(due_sources(context.config, context.catalog, context.clock))
