"""From a workspace to the daemon's metrics: one small snapshot at each scrape."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from contlearn.catalog.schema import files, records
from contlearn.config.schedule import next_scheduled
from contlearn.context import Context
from contlearn.errors import ContlearnError
from contlearn.evaluation.metrics import forgetting_by_set
from contlearn.evaluation.text_slices import largest_difference
from contlearn.monitoring.label_drift import LabelDriftWatch
from contlearn.monitoring.prediction_log import predicted_labels
from contlearn.monitoring.quarantine import QuarantineTally
from contlearn.monitoring.signals import Signals, read_signals
from contlearn.operations.status import read_status
from contlearn.papers.journal import CHANGES
from contlearn.papers.report import read_report
from contlearn.statistics.shares import ShareDrift
from contlearn.telemetry.metrics import (
    AccuracyReading,
    DaemonCollector,
    DaemonSnapshot,
    DriftReading,
    LookReading,
    make_registry,
)

__all__ = ["Measuring", "workspace_registry"]


class Measuring:
    """Makes snapshots of one workspace, for whoever scrapes, in whichever thread.

    Args:
        context: The opened workspace; each snapshot reads from its catalog and its files anew.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        config = context.config.monitoring
        self._quarantine = QuarantineTally(context.workspace.quarantine)
        self._watch = LabelDriftWatch(window=config.drift_window, limit=config.drift_threshold)

    def snapshot(self) -> DaemonSnapshot:
        """Give the snapshot of the workspace as it is now."""
        context = self._context
        status = read_status(context)
        with context.catalog.read() as connection:
            verdicts = connection.execute(
                sa.select(files.c.verdict, sa.func.count()).group_by(files.c.verdict)
            ).all()
            newest = connection.execute(
                sa.select(records.c.received_at).order_by(records.c.seq.desc()).limit(1)
            ).scalar()
        scheduled = next_scheduled(context.config.update, context.clock.now())
        champion = status["champion"]["version"] if status["champion"] else None
        accuracies, forgettings, agreement = _champion_numbers(context, status)
        return DaemonSnapshot.from_status(
            status,
            accuracies=accuracies,
            forgettings=forgettings,
            label_agreement=agreement,
            quarantined=self._quarantine.counts(),
            drift=tuple(self._drift(status)),
            slices=_slices(context, champion),
            look=_look(read_signals(context.workspace.state), champion),
            files={str(row[0]): int(row[1]) for row in verdicts},
            last_record_at=datetime.fromisoformat(newest).timestamp() if newest else None,
            next_run_at=scheduled.timestamp() if scheduled else None,
            promotions=_promotions(context),
            disk_free_bytes={"workspace": shutil.disk_usage(context.workspace.root).free},
        )

    def _drift(self, status: dict[str, Any]) -> Iterator[DriftReading]:
        context, config = self._context, self._context.config
        champion = status["champion"]["version"] if status["champion"] else None
        with context.catalog.read() as connection:
            arrived = self._watch.arrived(connection, champion)
            counts = predicted_labels(context.workspace.predictions, config.monitoring.drift_window)
            predicted = self._watch.predicted(connection, champion, counts)
        if arrived is not None:
            yield _reading("label", arrived)
        if predicted is not None:
            yield _reading("prediction", predicted)
        yield from _readings(read_signals(context.workspace.state), champion)


def _readings(signals: Signals | None, champion: int | None) -> Iterator[DriftReading]:
    """Give what the detectors said at the newest look; a look at a former champion is history."""
    if signals is None or signals.version != champion:
        return
    for item in signals.readings:
        yield DriftReading(
            detector=f"{item['detector']}-window"
            if (item["detector"], item["target"]) == ("psi", "prediction")
            else str(item["detector"]),
            target=str(item["target"]),
            score=float(item["statistic"]),
            detected=bool(item["detected"]),
            window_records=signals.window_records,
            p_value=float(item["adjusted_p_value"]),
        )


def _slices(context: Context, champion: int | None) -> dict[str, float]:
    """Give the largest difference of a label's rate of each named slice of the champion."""
    if champion is None:
        return {}
    try:
        measured = read_report(context.registry.get(champion).path).comparison
    except (OSError, ContlearnError):
        return {}
    slices = (measured and measured.text_slices) or ()
    found = ((str(item["slice"]), largest_difference(item)) for item in slices)
    return {name: value for name, value in found if value is not None}


def _look(signals: Signals | None, champion: int | None) -> LookReading | None:
    if signals is None:
        return None
    at = datetime.fromisoformat(signals.written_at).timestamp()
    if signals.version != champion:
        return LookReading(at=at)
    readings = tuple(
        AccuracyReading(
            kind=kind,
            value=item.value,
            low=item.low,
            high=item.high,
            dropped=item.dropped,
            records=item.records,
        )
        for kind, item in (("estimated", signals.estimated), ("measured", signals.measured))
        if item.value is not None and item.low is not None and item.high is not None
    )
    return LookReading(
        at=at,
        alarm=signals.drift.detected,
        consecutive=signals.drift.consecutive,
        accuracies=readings,
        held_out_accuracy=signals.estimated.reference,
        calibration_error=signals.calibration_error,
    )


def _reading(target: str, drift: ShareDrift) -> DriftReading:
    return DriftReading(
        detector="psi",
        target=target,
        score=drift.score,
        threshold=drift.threshold,
        detected=drift.detected,
        window_records=drift.window_records,
    )


def _champion_numbers(
    context: Context, status: dict[str, Any]
) -> tuple[tuple[float | None, ...], tuple[float | None, ...], float | None]:
    """Give the champion's measure on each held-out set, what was forgotten of each, its agreement.

    What is no share has no place among ratios: then only the agreement is given.
    """
    if status["champion"] is None:
        return (), (), None
    version = context.registry.get(status["champion"]["version"])
    agreement = version.manifest.export.label_agreement
    try:
        report = read_report(version.path)
    except (OSError, ContlearnError):
        return (), (), agreement
    matrix, metric = report.accuracy_matrix, report.measure("average_accuracy")
    if not matrix or (metric is not None and metric.unit):
        return (), (), agreement
    return matrix[-1], tuple(forgetting_by_set(matrix, metric)), agreement


def _promotions(context: Context) -> dict[str, int]:
    return {event: context.registry.journal.count(event) for event in CHANGES}


def workspace_registry(
    context: Context, heartbeat: Callable[[], float | None] = lambda: None
) -> CollectorRegistry:
    """Make a registry that reads the workspace at each scrape."""
    registry = make_registry()
    registry.register(DaemonCollector(Measuring(context).snapshot, heartbeat=heartbeat))
    return registry
