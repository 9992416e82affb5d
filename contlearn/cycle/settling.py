"""What becomes of a cycle once its child has ended: promoted, refused, kept or failed."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy.engine import Connection

from contlearn.catalog.cycles import CycleRow, change_cycle, get_cycle, waiting_cycle
from contlearn.catalog.parts import Apart, free_part, settle_failed
from contlearn.catalog.records import settle_kept, settle_learnt, settle_refused
from contlearn.context import Context
from contlearn.cycle.changes import promote_version
from contlearn.cycle.doubting import doubts_of_cycle
from contlearn.cycle.job import CycleFolder
from contlearn.cycle.outcome import UpdateResult
from contlearn.cycle.stages import CycleResult
from contlearn.errors import (
    CatalogUnreachable,
    ChampionChanged,
    ContlearnError,
    RegistryError,
    TrainingError,
)
from contlearn.pages.version_page import number_page, publish_report, remove_old_reports
from contlearn.registry.origin import cycle_reason
from contlearn.registry.retention import apply_retention
from contlearn.types import CycleOutcome, PromotionDecision

__all__ = ["Settlement"]

_log: Final = logging.getLogger("contlearn.cycle")


@dataclass(frozen=True, slots=True)
class Settlement:
    """Brings one cycle to its end; every step may be taken again after a kill.

    Args:
        context: The opened workspace.
        cycle: As it was when it was taken up.
    """

    context: Context
    cycle: CycleRow

    def enter(self, state: str, **values: object) -> None:
        """Write down that the cycle is in another state, and tell."""
        cycle_id = self.cycle.cycle_id
        with self.context.catalog.write() as connection:
            change_cycle(connection, cycle_id, state=state, **values)
        version = values.get("version")
        _log.info("cycle state", extra={"cycle": cycle_id, "state": state, "version": version})
        self.context.emit("cycle-state", cycle=cycle_id, state=state)

    def decide(self, folder: CycleFolder) -> UpdateResult:
        """Register the challenger, and go the way the gate showed."""
        context, cycle = self.context, self.cycle
        result = CycleResult.load(folder)
        decision, facts = result.decision, result.facts
        if cycle.state != "deciding":
            self.enter("deciding")
        version = context.registry.find_by_cycle(cycle.cycle_id)
        if version is None:
            version = context.registry.register(
                folder.version,
                cycle_id=cycle.cycle_id,
                parent=cycle.champion,
                facts=facts.to_json(),
                finish=number_page,
            )
        with contextlib.suppress(ContlearnError, OSError):
            # A page that cannot be written stops no promotion; `make_report` makes it anew.
            publish_report(context.workspace, folder.page, version.version)
        with context.catalog.write() as connection:
            free_part(connection, cycle.cycle_id)  # it could be learnt, whatever the gate says
        doubted = doubts_of_cycle(result.numbers)
        if doubted and doubted["number"]:
            # Before anything is promoted: the model may have learnt what is wrong.
            _log.info("labels in doubt", extra={"cycle": cycle.cycle_id, **_brief(doubted)})
            context.emit("labels-doubted", cycle=cycle.cycle_id, **_brief(doubted))
        values = {
            "version": version.version,
            "reasons": [outcome.to_json() for outcome in decision.outcomes],
            "metrics": facts.metrics,
            "numbers": {**(cycle.numbers or {}), **result.numbers},
        }
        if decision.verdict == "kept":
            return self._end_kept(decision, values)
        if not decision.promoted:
            return self._end_refused(decision, values)
        if not cycle.promote:
            return self._end("not-promoted", values)
        if context.config.gate.approval == "manual":
            ended_at = context.clock.now().isoformat()
            self.enter(
                "awaiting-approval", outcome="awaiting-approval", ended_at=ended_at, **values
            )
            return self._result("awaiting-approval")
        self.enter("promoting", **values)
        return self.promote()

    def promote(self) -> UpdateResult:
        """Make the challenger champion, if the champion is still the one it was compared with."""
        context, cycle = self.context, self.cycle
        with context.catalog.read() as connection:
            row = get_cycle(connection, cycle.cycle_id)
        if row is None or row.version is None:
            raise RegistryError(
                f"The cycle {cycle.cycle_id} has no registered version to promote.",
                where="the catalog",
                hint="Run `contlearn update` again.",
            )
        seen = context.registry.epoch()
        champion = context.registry.champion()
        if champion != row.version and context.registry.journal.find_last(
            "promote", version=row.version
        ):
            # It was promoted before a kill, and somebody has gone on or back since.
            return self._end("promoted", {})
        if champion not in (cycle.champion, row.version):
            return self._end(
                "not-promoted",
                {"error": "The champion was changed by hand while the challenger was being made."},
            )
        try:
            promote_version(
                context,
                row.version,
                actor=context.actor,
                reason=cycle_reason(cycle.cycle_id),
                origin="cycle",
                seen=seen,
            )
        except ChampionChanged:
            return self.promote()  # judged again by who is champion now
        with context.catalog.write() as connection:
            settle_learnt(connection, cycle.cycle_id)
            self._write_end(connection, "promoted")
        return self._result("promoted")

    def _write_end(self, connection: Connection, outcome: CycleOutcome, **values: object) -> None:
        """Write down how the cycle ended, and when."""
        ended_at = self.context.clock.now().isoformat()
        change_cycle(
            connection,
            self.cycle.cycle_id,
            state=outcome,
            outcome=outcome,
            ended_at=ended_at,
            **values,
        )

    def _end_refused(
        self, decision: PromotionDecision, values: Mapping[str, object]
    ) -> UpdateResult:
        said = " ".join(outcome.message for outcome in decision.refusals)
        why = said or "refused by the gate"
        with self.context.catalog.write() as connection:
            held = settle_refused(connection, self.cycle.cycle_id, why)
            self._write_end(connection, "refused", **values)
        if held:
            self.context.emit("records-held", cycle=self.cycle.cycle_id, records=held, reason=why)
        message = (
            f"{held} records were refused twice and are held (`contlearn data release` lets them "
            "take part again)."
            if held
            else "The records take part in the next update once more."
        )
        return self._result("refused", message=message)

    def _end_kept(self, decision: PromotionDecision, values: Mapping[str, object]) -> UpdateResult:
        """Leave the champion and the records: they are learnt with what comes, and no try counts.

        All in one transaction, so that a look is counted once however often this is begun.
        """
        why = " ".join(outcome.message for outcome in decision.not_worth)
        numbers = {"looks": 1, **cast("Mapping[str, object]", values["numbers"])}
        with self.context.catalog.write() as connection:
            kept = settle_kept(connection, self.cycle.cycle_id, why)
            self._write_end(connection, "kept", **{**values, "numbers": numbers})
        stay = "The record stays and is" if kept == 1 else f"The {kept} records stay and are"
        them = "it" if kept == 1 else "them"
        message = f"{stay} learnt with what comes next; nothing is counted against {them}."
        return self._result("kept", message=f"{why} {message}".strip())

    def _end(self, outcome: CycleOutcome, values: Mapping[str, object]) -> UpdateResult:
        with self.context.catalog.write() as connection:
            self._write_end(connection, outcome, **values)
        return self._result(outcome)

    def fail(self, error: ContlearnError | OSError) -> UpdateResult:
        """Write the failure down; the records stay open and the champion stays as it is."""
        if not isinstance(error, ContlearnError):
            error = TrainingError(
                f"The update failed: {error}.",
                where=str(error.filename) if error.filename else None,
                hint="Mend the cause and run `contlearn update` again; nothing was lost.",
            )
        context = self.context
        settings, apart, kind = context.config.daemon, Apart(), type(error).__name__
        # With a full disk even this may fail; then the next update takes the cycle up again.
        with contextlib.suppress(ContlearnError), self.context.catalog.write() as connection:
            change_cycle(
                connection,
                self.cycle.cycle_id,
                state="failed",
                outcome="failed",
                ended_at=self.context.clock.now().isoformat(),
                error=context.workspace.without_place(str(error)),
                numbers={"error_kind": kind},
            )
            apart = settle_failed(
                connection,
                self.cycle.cycle_id,
                failures=settings.poison_failures,
                divisions=settings.poison_divisions,
                kind=kind,
                why=context.workspace.without_place(error.what),
            )
            if apart:  # what failed is out of the way: no reason to wait before the rest
                change_cycle(
                    connection, self.cycle.cycle_id, numbers={"error_kind": kind, "apart": True}
                )
        message = _say_apart(apart)
        if apart.held:
            self.context.emit(
                "records-held", cycle=self.cycle.cycle_id, records=apart.held, reason=message
            )
        return UpdateResult(
            cycle=self.cycle.cycle_id,
            outcome="failed",
            error=error,
            message=message,
            held=apart.held,
            suspected=apart.suspected,
        )

    def keep_seconds(self, seconds: float) -> None:
        """Keep how long the whole cycle took, for the forecasts to come."""
        # It is of no use to the cycle itself: a full disk is told by who needs it.
        with contextlib.suppress(ContlearnError), self.context.catalog.write() as connection:
            row = get_cycle(connection, self.cycle.cycle_id)
            if row is not None and row.outcome != "failed":
                numbers = {**(row.numbers or {}), "took_seconds": round(seconds, 3)}
                change_cycle(connection, self.cycle.cycle_id, numbers=numbers)

    def _result(self, outcome: CycleOutcome, *, message: str = "") -> UpdateResult:
        with self.context.catalog.read() as connection:
            row = get_cycle(connection, self.cycle.cycle_id)
        if row is None:
            raise RegistryError(f"The cycle {self.cycle.cycle_id} is gone.", where="the catalog")
        return UpdateResult(
            cycle=self.cycle.cycle_id,
            outcome=outcome,
            version=row.version,
            reasons=tuple(row.reasons or ()),
            metrics=row.metrics or {},
            trained_share=(row.numbers or {}).get("trained_share"),
            search=(row.numbers or {}).get("search"),
            warnings=tuple((row.numbers or {}).get("warnings") or ()),
            doubted=doubts_of_cycle(row.numbers),
            message=message or (row.error or ""),
        )

    def ended(self) -> UpdateResult:
        """Give how the cycle ended, where that is written down already."""
        return self._result(cast("CycleOutcome", self.cycle.outcome))

    def clean(self, folder: CycleFolder) -> None:
        """Drop checkpoints and versions that nobody will read again; logs and numbers stay."""
        try:
            with self.context.catalog.read() as connection:
                waiting = waiting_cycle(connection)
        except CatalogUnreachable:
            return  # the cycle has ended all the same; the next one clears away
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


def _brief(doubted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: doubted[name] for name in ("looked_at", "number", "pairs")}


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
