"""Prometheus metrics: the daemon's values derived at scrape, the server's counted as they happen.

Every registry is passed in. The daemon keeps no counters of its own: at each scrape a collector
asks for a `DaemonSnapshot`, made from the catalog and small files, so that values survive restarts
and a cron job can write the same through `contlearn.telemetry.textfile`.
"""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contlearn.telemetry.measures import DAEMON, MEASURES, SERVER, SLOTS, Measure, by_name
from contlearn.types import CHANCE_OF_LOSS
from contlearn.wording import Measures

__all__ = [
    "DAEMON",
    "MEASURES",
    "OUTCOMES",
    "SERVER",
    "AccuracyReading",
    "DaemonCollector",
    "DaemonSnapshot",
    "DriftReading",
    "LookReading",
    "Measure",
    "build_info",
    "encode_metrics",
    "family",
    "make_registry",
    "seconds_of",
]

OUTCOMES: Final = (
    "promoted",
    "refused",
    "kept",
    "awaiting-approval",
    "not-promoted",
    "nothing-to-do",
    "failed",
)
_FILE_OUTCOMES: Final = ("ok", "partial", "reject")
_RECORD_OUTCOMES: Final = ("accepted", "duplicate", "conflict", "rejected")
_PROMOTIONS: Final = ("promote", "rollback")
_MAX_REASONS: Final = 40
_MAX_CHECKS: Final = 30
_MAX_SLICES: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReading:
    """What one drift detector says now. `target` is label, prediction or input."""

    detector: str
    target: str
    score: float
    detected: bool
    window_records: int
    threshold: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyReading:
    """An accuracy in production with its interval; `kind` is estimated or measured."""

    kind: str
    value: float
    low: float
    high: float
    dropped: bool
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookReading:
    """The newest look at production. `at` is in seconds since the epoch."""

    at: float
    alarm: bool = False
    consecutive: int = 0
    accuracies: Sequence[AccuracyReading] = ()
    held_out_accuracy: float | None = None
    calibration_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSnapshot:
    """One model's state at one moment, as small plain values; None means: not known, no series.

    Moments are seconds since the epoch. `accuracies` and `forgettings` hold one value for each
    experience on the champion's lineage, oldest first; only the last `SLOTS` are shown.
    """

    model: str
    promoted_version: int | None = None
    promotion_at: float | None = None
    promotions: Mapping[str, int] = field(default_factory=dict)
    versions: int = 0
    average_accuracy: float | None = None
    forgetting: float | None = None
    backward_transfer: float | None = None
    accuracies: Sequence[float | None] = ()
    forgettings: Sequence[float | None] = ()
    champion_scores: Mapping[str, float | None] = field(default_factory=dict)
    challenger_scores: Mapping[str, float | None] = field(default_factory=dict)
    best_version: int | None = None
    best_difference: float | None = None
    label_agreement: float | None = None
    gate: Sequence[Mapping[str, Any]] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)
    run_in_progress: bool = False
    last_start_at: float | None = None
    last_completion_at: float | None = None
    last_success_at: float | None = None
    last_seconds: float | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    ingested: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    kept: int = 0
    broken_plugins: int = 0
    held: int = 0
    learnt: int = 0
    held_out: int = 0
    oldest_pending_at: float | None = None
    last_record_at: float | None = None
    next_run_at: float | None = None
    drift: Sequence[DriftReading] = ()
    look: LookReading | None = None
    slices: Mapping[str, float] = field(default_factory=dict)
    disk_free_bytes: Mapping[str, int] = field(default_factory=dict)
    triggers: Mapping[str, int] = field(default_factory=dict)
    unattended: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_status(cls, status: Mapping[str, Any], **more: Any) -> DaemonSnapshot:
        """Make one from the dictionary that `contlearn status --json` prints.

        Args:
            status: What `read_status` gave.
            more: Fields that the status does not hold: drift, quarantined, disk_free_bytes, …
        """
        champion: Mapping[str, Any] = status.get("champion") or {}
        metrics: Mapping[str, Any] = champion.get("metrics") or {}
        best: Mapping[str, Any] = champion.get("best") or {}
        last: Mapping[str, Any] = status.get("last_cycle") or {}
        # What ended stays to be seen while another one runs, and what succeeded after one failed.
        ended: Mapping[str, Any] = status.get("last_ended") or {}
        success: Mapping[str, Any] = status.get("last_success") or {}
        numbers: Mapping[str, Any] = success.get("numbers") or {}
        start, end = seconds_of(ended.get("started_at")), seconds_of(ended.get("ended_at"))
        intake: Mapping[str, int] = status.get("ingested") or {}
        own = ("average_accuracy", "forgetting", "backward_transfer")
        stages = numbers.get("seconds") or {}
        # What has a unit is no ratio, and neither is a gate's number that may be in it.
        measures = Measures.of(status)
        no_shares = {name for name, metric in measures.unlike.items() if metric.unit}
        over = () if measures.primary in no_shares else own
        values: dict[str, Any] = {
            "model": str(status["model"]),
            "promoted_version": champion.get("version"),
            "promotion_at": seconds_of(champion.get("promoted_at")),
            "versions": int(status.get("versions") or 0),
            **{name: metrics.get(name) for name in over},
            "champion_scores": _scores(metrics, no_shares.union(own)),
            "challenger_scores": _scores(success.get("metrics") or {}, no_shares.union(own)),
            "best_version": best.get("version"),
            # Of a metric that has a unit it is no ratio.
            "best_difference": None if best.get("metric") in no_shares else best.get("difference"),
            "gate": tuple(
                {**reason, "measured": None} if no_shares and not reason.get("measure") else reason
                for reason in success.get("reasons") or ()
            ),
            "outcomes": dict(status.get("outcomes") or {}),
            "run_in_progress": bool(status.get("running_cycle")),
            "last_start_at": seconds_of(last.get("started_at")),
            "last_completion_at": end,
            "last_success_at": seconds_of(success.get("ended_at")),
            "last_seconds": None if start is None or end is None else end - start,
            "stage_seconds": {str(name): float(value) for name, value in stages.items()},
            "ingested": {
                "accepted": int(intake.get("accepted", 0)),
                "duplicate": int(intake.get("duplicates", 0)),
                "conflict": int(intake.get("conflicts", 0)),
                "rejected": int(intake.get("rejected", 0)),
            },
            "pending": int(status.get("pending_records") or 0),
            "kept": int(status.get("kept_records") or 0),
            "broken_plugins": len(status.get("broken_plugins") or ()),
            "held": int(status.get("held_records") or 0),
            "learnt": int(status.get("learnt_records") or 0),
            "held_out": int(status.get("held_out_records") or 0),
            "oldest_pending_at": seconds_of(status.get("oldest_pending")),
            "triggers": dict(status.get("triggers") or {}),
            "unattended": _unattended(status),
        }
        return cls(**{**values, **more})


class DaemonCollector(Collector):
    """Turns snapshots into metrics at every scrape.

    Args:
        snapshots: Gives the snapshot of a workspace, one for each; called at every scrape. One
            that raises is counted and logged, and the scrape goes on with the others.
        heartbeat: Gives when the daemon last finished a round; None leaves the series out.
        blocked: Says of each model whether something keeps its workspace from being watched.
    """

    def __init__(
        self,
        *snapshots: Callable[[], DaemonSnapshot],
        heartbeat: Callable[[], float | None] = lambda: None,
        blocked: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        self._snapshots = snapshots
        self._heartbeat = heartbeat
        self._blocked = blocked
        self._failures = 0

    def describe(self) -> Iterable[Metric]:
        """Name the metrics without reading anything; asked when the collector is registered."""
        return [family(measure) for measure in DAEMON]

    def collect(self) -> Iterator[Metric]:
        """Read the state and give every family of the daemon's table, filled."""
        families = {measure.name: family(measure) for measure in DAEMON}
        rows = _Rows(families)
        for snapshot in self._snapshots:
            try:
                _fill(rows, snapshot())
            except Exception:
                # A scrape must show what it can, above all that reading failed.
                self._failures += 1
                logging.getLogger("contlearn.telemetry").exception("snapshot failed")
        rows.add("snapshot_failures_total", self._failures)
        rows.add("daemon_heartbeat_timestamp_seconds", self._heartbeat())
        for model, is_blocked in self._blocked().items():
            rows.add("workspace_blocked", float(is_blocked), model)
        rows.add("build_info", 1, *build_info())
        yield from families.values()


def family(measure: Measure) -> CounterMetricFamily | GaugeMetricFamily:
    """Make the empty family of a measure."""
    if measure.kind == "counter":
        return CounterMetricFamily(measure.name, measure.meaning, labels=measure.labels)
    return GaugeMetricFamily(measure.name, measure.meaning, labels=measure.labels)


def make_registry() -> CollectorRegistry:
    """Make an empty registry without `_created` series, which would double every counter."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client leaves it bare
    return CollectorRegistry(auto_describe=False)


def encode_metrics(registry: Collector, accept: str = "") -> tuple[bytes, str]:
    """Write all metrics in the format the scraper accepts.

    Returns:
        The body and its content type.
    """
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


def build_info() -> tuple[str, str]:
    """Give the versions of contlearn and of Python."""
    try:
        own = version("contlearn")
    except PackageNotFoundError:
        own = "unknown"
    return own, platform.python_version()


def seconds_of(moment: object) -> float | None:
    """Turn an ISO 8601 moment, a datetime or a number into seconds since the epoch."""
    if isinstance(moment, datetime):
        return moment.timestamp()
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return float(moment)
    if isinstance(moment, str) and moment:
        return datetime.fromisoformat(moment).timestamp()
    return None


def _scores(metrics: Mapping[str, Any], without: Container[str]) -> dict[str, float]:
    return {
        str(name): float(value)
        for name, value in metrics.items()
        if name not in without
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0.0 <= value <= 1.0
    }


def _unattended(status: Mapping[str, Any]) -> dict[str, float]:
    """Take what the daemon wrote down about itself; nothing when none has run here."""
    values = {"notifications_waiting": float(status.get("notifications_waiting") or 0)}
    daemon: Mapping[str, Any] = status.get("daemon") or {}
    if daemon:
        probation: Mapping[str, Any] = daemon.get("probation") or {}
        values["daemon_failures_in_a_row"] = float(daemon.get("failures") or 0)
        values["probation"] = float(bool(probation) and not probation.get("verdict"))
        if daemon.get("disk"):
            values["disk_missing_bytes"] = float(daemon["disk"]["missing_bytes"])
    return values


class _Rows:
    """Adds samples by short name; a value of None or NaN adds nothing."""

    def __init__(self, families: Mapping[str, CounterMetricFamily | GaugeMetricFamily]) -> None:
        self._families = families

    def add(self, name: str, value: float | None, *labels: str) -> None:
        if value is not None and not math.isnan(value):
            self._families[by_name(f"contlearn_{name}").name].add_metric(labels, float(value))


def _fill(rows: _Rows, s: DaemonSnapshot) -> None:
    model = s.model
    rows.add("promoted_version", s.promoted_version or 0, model)
    if s.promoted_version is not None:
        rows.add("champion_info", 1, model, str(s.promoted_version))
    rows.add("promotion_last_timestamp_seconds", s.promotion_at, model)
    for kind in _PROMOTIONS:
        rows.add("promotions_total", s.promotions.get(kind, 0), model, kind)
    rows.add("registry_versions", s.versions, model)
    rows.add("onnx_label_agreement_ratio", s.label_agreement, model)
    _fill_quality(rows, s)
    _fill_data(rows, s)
    for outcome in OUTCOMES:
        rows.add("runs_total", s.outcomes.get(outcome, 0), model, outcome)
    rows.add("run_in_progress", float(s.run_in_progress), model)
    rows.add("run_last_start_timestamp_seconds", s.last_start_at, model)
    rows.add("run_last_completion_timestamp_seconds", s.last_completion_at, model)
    rows.add("run_last_success_timestamp_seconds", s.last_success_at, model)
    rows.add("run_last_duration_seconds", s.last_seconds, model)
    for stage, seconds in s.stage_seconds.items():
        rows.add("run_last_stage_duration_seconds", seconds, model, stage)
    rows.add("schedule_next_run_timestamp_seconds", s.next_run_at, model)
    for reading in s.drift:
        labels = (model, reading.detector, reading.target)
        rows.add("drift_score", reading.score, *labels)
        rows.add("drift_threshold", reading.threshold, *labels)
        rows.add("drift_detected", float(reading.detected), *labels)
        rows.add("drift_window_records", reading.window_records, *labels)
        rows.add("drift_p_value", reading.p_value, *labels)
    _fill_look(rows, s)
    for area, free in s.disk_free_bytes.items():
        rows.add("disk_free_bytes", free, model, area)
    for name, value in s.unattended.items():
        rows.add(name, value, model)
    for trigger, number in sorted(s.triggers.items()):
        rows.add("triggers_total", number, model, trigger)


def _fill_look(rows: _Rows, s: DaemonSnapshot) -> None:
    model, look = s.model, s.look
    for name, difference in sorted(s.slices.items())[:_MAX_SLICES]:
        rows.add("slice_label_difference_ratio", difference, model, name)
    if look is None:
        return
    rows.add("look_last_timestamp_seconds", look.at, model)
    rows.add("drift_alarm", float(look.alarm), model)
    rows.add("drift_consecutive_looks", look.consecutive, model)
    rows.add("held_out_accuracy_ratio", look.held_out_accuracy, model)
    rows.add("calibration_error_ratio", look.calibration_error, model)
    measured = 0
    for reading in look.accuracies:
        name = f"{reading.kind}_accuracy_ratio"
        bounds = (("lower", reading.low), ("point", reading.value), ("upper", reading.high))
        for bound, value in bounds:
            rows.add(name, value, model, bound)
        rows.add("accuracy_dropped", float(reading.dropped), model, reading.kind)
        if reading.kind == "measured":
            measured = reading.records
    rows.add("measured_accuracy_records", measured, model)


def _fill_quality(rows: _Rows, s: DaemonSnapshot) -> None:
    model = s.model
    rows.add("average_accuracy_ratio", s.average_accuracy, model)
    rows.add("average_forgetting_ratio", s.forgetting, model)
    rows.add("backward_transfer_ratio", s.backward_transfer, model)
    for role, scores in (("champion", s.champion_scores), ("challenger", s.challenger_scores)):
        for metric, value in scores.items():
            rows.add("eval_score_ratio", value, model, role, metric)
    rows.add("best_proven_version", s.best_version, model)
    rows.add("best_proven_difference_ratio", s.best_difference, model)
    first = max(0, len(s.accuracies) - SLOTS)
    for index, value in list(enumerate(s.accuracies))[first:]:
        slot = f"{index % SLOTS:02d}"
        rows.add("experience_accuracy_ratio", value, model, slot)
        rows.add("experience_index", index, model, slot)
    first = max(0, len(s.accuracies or s.forgettings) - SLOTS)
    for index, value in list(enumerate(s.forgettings))[first:]:
        rows.add("forgetting_ratio", value, model, f"{index % SLOTS:02d}")
    seen: set[str] = set()
    for reason in s.gate[:_MAX_CHECKS]:
        check = str(reason.get("rule"))
        if check in seen:  # a rule may look at several sets; its first outcome is the whole
            continue
        seen.add(check)
        if reason.get("passed") is not None:
            rows.add("gate_last_passed", float(bool(reason["passed"])), model, check)
        measured, required = reason.get("measured"), reason.get("required")
        if reason.get("measure") == CHANCE_OF_LOSS:
            rows.add("gate_last_chance_of_loss_ratio", measured, model)
            continue  # of a chance of loss less is better: no margin to show beside the others
        if not (isinstance(measured, int | float) and isinstance(required, int | float)):
            continue
        # Rows and bytes are no ratios: in one panel they would hide all shares.
        if max(abs(measured), abs(required)) <= 1.0:
            rows.add("gate_last_margin_ratio", measured - required, model, check)


def _fill_data(rows: _Rows, s: DaemonSnapshot) -> None:
    model = s.model
    for outcome in _FILE_OUTCOMES:
        rows.add("ingest_files_total", s.files.get(outcome, 0), model, outcome)
    for outcome in _RECORD_OUTCOMES:
        rows.add("ingest_records_total", s.ingested.get(outcome, 0), model, outcome)
    # Always one series at least, so that an alert on the sum has something to stand on.
    reasons = sorted(s.quarantined.items(), key=lambda item: (-item[1], item[0]))
    for reason, number in reasons[:_MAX_REASONS]:
        if reason != "other":
            rows.add("ingest_quarantined_records_total", number, model, reason)
    other = sum(n for r, n in reasons[_MAX_REASONS:] if r != "other") + s.quarantined.get(
        "other", 0
    )
    rows.add("ingest_quarantined_records_total", other, model, "other")
    rows.add("ingest_pending_records", s.pending, model)
    rows.add("ingest_oldest_pending_timestamp_seconds", s.oldest_pending_at, model)
    rows.add("ingest_last_record_timestamp_seconds", s.last_record_at, model)
    rows.add("kept_records", s.kept, model)
    rows.add("broken_plugins", s.broken_plugins, model)
    rows.add("held_records", s.held, model)
    rows.add("learnt_records", s.learnt, model)
    rows.add("held_out_records", s.held_out, model)
