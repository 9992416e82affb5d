"""Every Prometheus name of contlearn in one table; a test holds docs/metrics.md against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["DAEMON", "MEASURES", "SERVER", "SLOTS", "TOP_LABELS", "Kind", "Measure", "by_name"]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Source: TypeAlias = Literal["daemon", "server", "both"]

# An experience keeps the slot `index % SLOTS` until the twentieth after it takes it over, so that
# a series means one experience for as long as it exists and their number is bounded.
SLOTS: Final = 20
# Predicted labels with a series of their own; the others are counted together as "other".
TOP_LABELS: Final = 50

_LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LOAD: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_CONFIDENCE: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric: its name, type, unit, labels and meaning, and which process shows it."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    source: Source = "daemon"
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Give the sample names that Prometheus stores for it."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


def _gauge(name: str, unit: str, labels: str, meaning: str, source: Source = "daemon") -> Measure:
    return Measure(f"contlearn_{name}", "gauge", unit, tuple(labels.split()), meaning, source)


def _counter(name: str, unit: str, labels: str, meaning: str, source: Source = "daemon") -> Measure:
    return Measure(f"contlearn_{name}", "counter", unit, tuple(labels.split()), meaning, source)


def _histogram(
    name: str, unit: str, labels: str, meaning: str, buckets: tuple[float, ...]
) -> Measure:
    return Measure(
        f"contlearn_{name}", "histogram", unit, tuple(labels.split()), meaning, "server", buckets
    )


MEASURES: Final[tuple[Measure, ...]] = (
    _gauge(
        "build_info", "info", "version python", "Fixed at 1; what this process is made of.", "both"
    ),
    _gauge(
        "champion_info",
        "info",
        "model version",
        "Fixed at 1; the promoted version (daemon) or the loaded one (server).",
        "both",
    ),
    # --- the daemon's own life
    _gauge(
        "daemon_heartbeat_timestamp_seconds",
        "seconds",
        "",
        "When the daemon last finished a round of its loop.",
    ),
    _gauge(
        "workspace_blocked",
        "boolean",
        "model",
        "1 while a process that stands still holds a lock, or the workspace cannot be written.",
    ),
    _counter(
        "snapshot_failures_total",
        "failures",
        "",
        "Scrapes at which the state of a workspace could not be read.",
    ),
    _gauge(
        "schedule_next_run_timestamp_seconds",
        "seconds",
        "model",
        "When the schedule starts the next update.",
    ),
    _gauge("disk_free_bytes", "bytes", "model area", "Free space where the area lies."),
    _gauge(
        "disk_missing_bytes",
        "bytes",
        "model",
        "What the next update lacks on the disk; 0: it fits.",
    ),
    _gauge(
        "daemon_failures_in_a_row", "failures", "model", "Updates that failed since one did not."
    ),
    _gauge("probation", "boolean", "model", "1 while the champion is on probation."),
    _gauge(
        "notifications_waiting", "messages", "model", "Messages that a channel has not taken yet."
    ),
    _counter("triggers_total", "updates", "model trigger", "Updates that started, by their cause."),
    # --- data
    _counter(
        "ingest_files_total",
        "files",
        "model outcome",
        "Files taken in, by verdict: ok, partial, reject.",
    ),
    _counter(
        "ingest_records_total",
        "records",
        "model outcome",
        "Rows by what became of them: accepted, duplicate, conflict, rejected.",
    ),
    _counter(
        "ingest_quarantined_records_total",
        "records",
        "model reason",
        "Refused rows by reason code; at most 40 reasons, the rest as other.",
    ),
    _gauge("ingest_pending_records", "records", "model", "Records waiting for an update."),
    _gauge(
        "kept_records",
        "records",
        "model",
        "Those of them that are kept, as learning them was not worth the change.",
    ),
    _gauge(
        "ingest_oldest_pending_timestamp_seconds",
        "seconds",
        "model",
        "Arrival of the oldest record that no update tried; kept ones were tried.",
    ),
    _gauge(
        "ingest_last_record_timestamp_seconds", "seconds", "model", "Arrival of the newest record."
    ),
    _gauge("held_records", "records", "model", "Records held back until somebody releases them."),
    _gauge("learnt_records", "records", "model", "Training records the champion has learnt."),
    _gauge("held_out_records", "records", "model", "Records kept for measuring only."),
    # --- best proven version
    _gauge(
        "best_proven_version", "version", "model", "The version that small losses are counted from."
    ),
    _gauge(
        "best_proven_difference_ratio",
        "ratio",
        "model",
        "The champion less the best proven version on old held-out rows, below 0 where it is worse;"
        " 0 where it is that version itself.",
    ),
    _gauge(
        "broken_plugins",
        "failures",
        "model",
        "What of plugins could not be used; `contlearn plugins list` names it.",
    ),
    # --- updates
    _counter(
        "runs_total",
        "runs",
        "model outcome",
        "Updates that ended, by outcome: promoted, refused, kept, awaiting-approval, not-promoted, "
        "failed.",
    ),
    _gauge("run_in_progress", "boolean", "model", "1 while an update runs."),
    _gauge("run_last_start_timestamp_seconds", "seconds", "model", "When the last update started."),
    _gauge(
        "run_last_completion_timestamp_seconds", "seconds", "model", "When the last update ended."
    ),
    _gauge(
        "run_last_success_timestamp_seconds",
        "seconds",
        "model",
        "When the last update ended that did not fail; one refused or kept is no failure.",
    ),
    _gauge("run_last_duration_seconds", "seconds", "model", "How long the last update took."),
    _gauge(
        "run_last_stage_duration_seconds",
        "seconds",
        "model stage",
        "How long each stage took of the last update that did not fail.",
    ),
    # --- quality
    _gauge(
        "eval_score_ratio",
        "ratio",
        "model role metric",
        "Score on all held-out rows together; role is champion or challenger.",
    ),
    _gauge(
        "average_accuracy_ratio",
        "ratio",
        "model",
        "Mean of the champion's accuracy (entities: F1) over the held-out sets of all experiences.",
    ),
    _gauge(
        "average_forgetting_ratio",
        "ratio",
        "model",
        "Mean loss since each experience was known best; positive is bad.",
    ),
    _gauge(
        "backward_transfer_ratio",
        "ratio",
        "model",
        "Mean change since each experience was learnt; negative means something was lost.",
    ),
    _gauge(
        "experience_accuracy_ratio",
        "ratio",
        "model slot",
        "The champion's accuracy on one experience's held-out set; the last 20 experiences.",
    ),
    _gauge(
        "forgetting_ratio",
        "ratio",
        "model slot",
        "Fall from the best value on one experience so far; positive is bad.",
    ),
    _gauge(
        "experience_index",
        "index",
        "model slot",
        "Which experience a slot stands for.",
    ),
    _gauge(
        "gate_last_passed",
        "boolean",
        "model check",
        "1 if the last challenger passed this rule, 0 if not; absent where it did not apply.",
    ),
    _gauge(
        "gate_last_margin_ratio",
        "ratio",
        "model check",
        "Measured minus required of this rule for the last challenger, where both are shares.",
    ),
    _gauge(
        "gate_last_chance_of_loss_ratio",
        "ratio",
        "model",
        "Chance that the last challenger is truly worse by `gate.margin` or more, where few old "
        "rows were judged.",
    ),
    _gauge(
        "onnx_label_agreement_ratio",
        "ratio",
        "model",
        "Share of equal labels between the champion's ONNX model and its source.",
    ),
    # --- versions
    _gauge("promoted_version", "version", "model", "Number of the promoted version; 0 before any."),
    _gauge(
        "promotion_last_timestamp_seconds",
        "seconds",
        "model",
        "When the champion last changed.",
    ),
    _counter(
        "promotions_total", "promotions", "model kind", "Champion changes: promote or rollback."
    ),
    _gauge("registry_versions", "versions", "model", "Versions in the registry."),
    # --- drift
    _gauge(
        "drift_score",
        "score",
        "model detector target",
        "What a drift detector measured; target is label, prediction or input.",
    ),
    _gauge(
        "drift_threshold", "score", "model detector target", "Where that detector starts to alarm."
    ),
    _gauge("drift_detected", "boolean", "model detector target", "1 while it alarms."),
    _gauge(
        "drift_window_records", "records", "model detector target", "Records in the window judged."
    ),
    _gauge(
        "drift_p_value",
        "probability",
        "model detector target",
        "How often chance does what a detector saw, corrected for the number of detectors.",
    ),
    _gauge("drift_alarm", "boolean", "model", "1 while all detectors together alarm."),
    _gauge("drift_consecutive_looks", "looks", "model", "Looks in a row that alarmed."),
    _gauge(
        "look_last_timestamp_seconds",
        "seconds",
        "model",
        "When drift and accuracy in production were last looked at.",
    ),
    # --- accuracy in production
    _gauge(
        "estimated_accuracy_ratio",
        "ratio",
        "model bound",
        "Accuracy estimated from confidences, without labels; bound is lower, point or upper.",
    ),
    _gauge(
        "measured_accuracy_ratio",
        "ratio",
        "model bound",
        "Accuracy on labels that came back for answers of the window; bounds as above.",
    ),
    _gauge(
        "measured_accuracy_records",
        "records",
        "model",
        "Answers of the window whose label came back.",
    ),
    _gauge(
        "held_out_accuracy_ratio",
        "ratio",
        "model",
        "Accuracy on held-out rows when the version was made: what the two above stand against.",
    ),
    _gauge(
        "accuracy_dropped",
        "boolean",
        "model kind",
        "1 while the estimated or measured interval lies below the held-out accuracy less "
        "`monitoring.accuracy_margin`.",
    ),
    _gauge(
        "calibration_error_ratio",
        "ratio",
        "model",
        "Mean gap between confidence and share right, on labels that came back.",
    ),
    _gauge(
        "slice_label_difference_ratio",
        "ratio",
        "model slice",
        "Largest difference of a label's rate between a named slice and all other held-out rows.",
    ),
    # --- server: the model
    _gauge("model_ready", "boolean", "model", "1 while a version can answer.", "server"),
    _gauge("model_version", "version", "model", "Number of the loaded version; 0: none.", "server"),
    _gauge(
        "model_loaded_timestamp_seconds",
        "seconds",
        "model",
        "When the loaded version began to answer.",
        "server",
    ),
    _gauge(
        "model_rejected_version",
        "version",
        "model",
        "Number of the promoted version that could not be loaded; 0: none.",
        "server",
    ),
    _counter(
        "reloads_total", "loads", "model outcome", "Versions loaded: success or failed.", "server"
    ),
    _histogram("reload_duration_seconds", "seconds", "model", "Verify, load and warm up.", _LOAD),
    # --- server: requests
    _counter(
        "http_requests_total",
        "requests",
        "model route method code",
        "Answers by model (the first where none is named), route template, method and status code.",
        "server",
    ),
    _histogram(
        "http_request_duration_seconds",
        "seconds",
        "model route",
        "From the head of a request to the end of its answer.",
        _LATENCY,
    ),
    _histogram(
        "infer_duration_seconds",
        "seconds",
        "model phase",
        "Time in the queue (queue) and in the model (compute).",
        _LATENCY,
    ),
    _histogram("infer_batch_rows", "rows", "model", "Texts a worker answered together.", _ROWS),
    _gauge("infer_queue_depth", "texts", "model", "Texts admitted and not answered yet.", "server"),
    _gauge("infer_in_flight", "requests", "model", "Requests being answered.", "server"),
    _counter(
        "infer_rejected_total",
        "requests",
        "model reason",
        "Requests turned away: queue_full, too_large, timeout, not_ready, invalid, cancelled.",
        "server",
    ),
    _counter(
        "workers_replaced_total",
        "workers",
        "reason",
        "Worker processes that another took the place of: ended, or silent.",
        "server",
    ),
    # --- server: answers
    _counter(
        "predictions_total",
        "predictions",
        "model label",
        "Answers by label: the first 50 labels of the model, the rest as other.",
        "server",
    ),
    _histogram(
        "prediction_confidence_ratio", "ratio", "model", "Confidence of the answers.", _CONFIDENCE
    ),
    _counter(
        "inputs_truncated_total",
        "texts",
        "model",
        "Texts cut at the model's token limit.",
        "server",
    ),
    _counter(
        "prediction_log_records_total",
        "predictions",
        "model outcome",
        "Predictions logged: written, or dropped because the log was behind.",
        "server",
    ),
    _counter(
        "feedback_total",
        "labels",
        "model outcome",
        "Labels sent back by users: accepted, duplicate, unknown (the request), refused.",
        "server",
    ),
    _counter(
        "unknown_texts_total",
        "texts",
        "model",
        "Texts flagged as unlike what the model was proven on.",
        "server",
    ),
    # --- server: versions beside the champion
    _gauge(
        "model_role_info",
        "info",
        "model role version",
        "Fixed at 1; the version that is canary or shadow.",
        "server",
    ),
    _counter(
        "canary_requests_total",
        "requests",
        "model outcome",
        "Requests given to the canary: answered or failed (then the champion answered).",
        "server",
    ),
    _counter(
        "canary_stops_total",
        "stops",
        "model reason",
        "Canaries stopped by the server itself: errors or latency.",
        "server",
    ),
    _counter(
        "shadow_texts_total",
        "texts",
        "model outcome",
        "Texts shown to the shadow: same, different, failed, dropped.",
        "server",
    ),
)

DAEMON: Final = tuple(m for m in MEASURES if m.source in ("daemon", "both"))
SERVER: Final = tuple(m for m in MEASURES if m.source in ("server", "both"))


def by_name(name: str) -> Measure:
    """Give one measure by its whole name.

    Raises:
        KeyError: When there is none; a bug, because names are constants.
    """
    return _BY_NAME[name]


_BY_NAME: Final = {measure.name: measure for measure in MEASURES}
