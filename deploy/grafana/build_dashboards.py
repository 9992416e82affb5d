"""Write the dashboards as JSON files that Grafana provisions; takes no arguments.

The JSON files are what is deployed; this program only keeps their panels alike. A test holds the
files against it, and every query against the metrics that contlearn shows.
"""

# ruff: noqa: E501  # a query is one line, as it is in Grafana
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MODEL = 'model=~"$model"'
KEPT = "Kept: an update was not worth the change; they are learnt with what comes next."
Panel = dict[str, Any]


def panel(
    kind: str,
    title: str,
    *queries: tuple[str, str],
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    about: str = "",
    stack: bool = False,
    bounds: tuple[float | None, float | None] = (None, None),
    steps: list[tuple[str, float | None]] | None = None,
    heat: bool = False,
) -> Panel:
    """Make one panel; its place is set when the dashboard is laid out."""
    defaults: dict[str, Any] = {"unit": unit}
    low_high = zip(("min", "max"), bounds, strict=True)
    defaults |= {name: value for name, value in low_high if value is not None}
    if steps:
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [{"color": color, "value": value} for color, value in steps],
        }
        defaults["color"] = {"mode": "thresholds"}
    if kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if stack else 8,
            "showPoints": "never",
            "spanNulls": True,
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        }
    options: dict[str, Any] = {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value" if steps else "none",
            "graphMode": "none",
            "textMode": "auto",
        },
        "bargauge": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "displayMode": "basic",
            "orientation": "horizontal",
        },
        "status-history": {"showValue": "auto", "legend": {"showLegend": False}},
        "heatmap": {
            "calculate": False,
            "yAxis": {"unit": unit},
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
            "cellGap": 1,
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": False},
        },
    }[kind]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend,
                "range": True,
                "format": "heatmap" if heat else "time_series",
            }
            for place, (expression, legend) in enumerate(queries)
        ],
        "_width": width,
        "_height": height,
    }


def row(title: str) -> Panel:
    """Make a heading."""
    return {
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "_width": 24,
        "_height": 1,
    }


def dashboard(uid: str, title: str, about: str, panels: list[Panel], *, all_models: bool) -> Panel:
    """Lay the panels out from left to right and write everything around them."""
    x = y = tallest = 0
    for number, item in enumerate(panels, start=1):
        width, height = item.pop("_width"), item.pop("_height")
        if x + width > 24:
            x, y, tallest = 0, y + tallest, 0
        item["id"] = number
        item["gridPos"] = {"x": x, "y": y, "w": width, "h": height}
        x, tallest = x + width, max(tallest, height)
    model = {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": SOURCE,
        "definition": "label_values(contlearn_promoted_version, model)",
        "query": {"query": "label_values(contlearn_promoted_version, model)", "refId": "model"},
        "refresh": 2,
        "sort": 1,
        "multi": all_models,
        "includeAll": all_models,
        "current": {},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {},
        "options": [],
        "regex": "",
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "skipUrlSync": False,
    }
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["contlearn"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "title": "contlearn",
                "tags": ["contlearn"],
                "asDropdown": True,
                "keepTime": True,
                "includeVars": True,
                "targetBlank": False,
                "icon": "external link",
                "url": "",
                "tooltip": "",
            }
        ],
        "templating": {"list": [source, model]},
        "annotations": {
            "list": [
                {
                    "name": "Promotions",
                    "datasource": SOURCE,
                    "enable": True,
                    "hide": False,
                    "iconColor": "blue",
                    "expr": f"changes(contlearn_promoted_version{{{MODEL}}}[1m]) > 0",
                    "step": "60s",
                    "titleFormat": "{{model}}: champion changed",
                    "textFormat": "",
                }
            ]
        },
        "panels": panels,
    }


OK = [("green", None), ("red", 1.0)]
READY = [("red", None), ("green", 1.0)]


def fleet() -> Panel:
    """All models at a glance."""
    panels = [
        panel(
            "stat",
            "Promoted version",
            (f"contlearn_promoted_version{{{MODEL}}}", "{{model}}"),
            width=6,
            height=5,
        ),
        panel(
            "stat",
            "Served version",
            (f"contlearn_model_version{{{MODEL}}}", "{{model}} {{instance}}"),
            width=6,
            height=5,
        ),
        panel(
            "stat",
            "Ready",
            (f"contlearn_model_ready{{{MODEL}}}", "{{model}} {{instance}}"),
            width=6,
            height=5,
            steps=READY,
        ),
        panel(
            "stat",
            "Drift alarms",
            (f"sum by (model) (contlearn_drift_detected{{{MODEL}}})", "{{model}}"),
            width=6,
            height=5,
            steps=OK,
        ),
        panel(
            "stat",
            "Since the last promotion",
            (f"time() - contlearn_promotion_last_timestamp_seconds{{{MODEL}}}", "{{model}}"),
            unit="s",
            width=6,
            height=5,
        ),
        panel(
            "stat",
            "Since the daemon's last round",
            ("time() - contlearn_daemon_heartbeat_timestamp_seconds", "{{instance}}"),
            unit="s",
            width=6,
            height=5,
            steps=[("green", None), ("red", 600.0)],
        ),
        panel(
            "stat",
            "Records waiting",
            (f"contlearn_ingest_pending_records{{{MODEL}}}", "{{model}}"),
            (f"contlearn_kept_records{{{MODEL}}}", "{{model}}, kept"),
            width=6,
            height=5,
            about=KEPT,
        ),
        panel(
            "stat",
            "Records held",
            (f"contlearn_held_records{{{MODEL}}}", "{{model}}"),
            width=6,
            height=5,
            steps=OK,
        ),
        panel(
            "timeseries",
            "Average accuracy",
            (f"contlearn_average_accuracy_ratio{{{MODEL}}}", "{{model}}"),
            unit="percentunit",
            bounds=(0, 1),
            width=12,
        ),
        panel(
            "timeseries",
            "Forgetting",
            (f"contlearn_average_forgetting_ratio{{{MODEL}}}", "{{model}}"),
            unit="percentunit",
            width=12,
            about="Positive is bad.",
        ),
        panel(
            "timeseries",
            "Requests a second",
            (
                'sum by (job, instance) (rate(contlearn_http_requests_total{route!~"/health/.*"}[5m]))',
                "{{instance}}",
            ),
            unit="reqps",
            width=12,
        ),
        panel(
            "timeseries",
            "Slowest request in a hundred",
            (
                'histogram_quantile(0.99, sum by (instance, le) (rate(contlearn_http_request_duration_seconds_bucket{route=~"/predict|/v2/models/.*infer"}[5m])))',
                "{{instance}}",
            ),
            unit="s",
            width=12,
        ),
        panel(
            "timeseries",
            "Updates by outcome, last seven days",
            (
                f"sum by (model, outcome) (increase(contlearn_runs_total{{{MODEL}}}[7d]))",
                "{{model}} {{outcome}}",
            ),
            width=12,
        ),
        panel(
            "timeseries",
            "Free disk space",
            (f"contlearn_disk_free_bytes{{{MODEL}}}", "{{model}} {{area}}"),
            unit="bytes",
            width=12,
            bounds=(0, None),
        ),
        panel(
            "timeseries",
            "Updates started in a day, by cause",
            (
                f"sum by (model, trigger) (increase(contlearn_triggers_total{{{MODEL}}}[1d]))",
                "{{model}} {{trigger}}",
            ),
            width=12,
        ),
        panel(
            "timeseries",
            "Failures in a row, probation",
            (f"contlearn_daemon_failures_in_a_row{{{MODEL}}}", "{{model}} failures"),
            (f"contlearn_probation{{{MODEL}}}", "{{model}} on probation"),
            width=12,
            bounds=(0, None),
        ),
        panel(
            "timeseries",
            "Notifications that wait",
            (f"contlearn_notifications_waiting{{{MODEL}}}", "{{model}}"),
            width=12,
            bounds=(0, None),
        ),
        panel(
            "timeseries",
            "Missing on the disk for the next update",
            (f"contlearn_disk_missing_bytes{{{MODEL}}}", "{{model}}"),
            unit="bytes",
            width=12,
            bounds=(0, None),
        ),
    ]
    return dashboard(
        "contlearn-fleet", "contlearn: fleet", "All models at a glance.", panels, all_models=True
    )


def quality() -> Panel:
    """One model: accuracy, forgetting, decisions."""
    panels = [
        panel(
            "stat",
            "Champion",
            (f"contlearn_promoted_version{{{MODEL}}}", "version"),
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Average accuracy",
            (f"contlearn_average_accuracy_ratio{{{MODEL}}}", ""),
            unit="percentunit",
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Forgetting",
            (f"contlearn_average_forgetting_ratio{{{MODEL}}}", ""),
            unit="percentunit",
            width=4,
            height=5,
            about="Positive is bad.",
        ),
        panel(
            "stat",
            "Backward transfer",
            (f"contlearn_backward_transfer_ratio{{{MODEL}}}", ""),
            unit="percentunit",
            width=4,
            height=5,
            about="Negative: something was lost.",
        ),
        panel(
            "stat",
            "Same labels as the source model",
            (f"contlearn_onnx_label_agreement_ratio{{{MODEL}}}", ""),
            unit="percentunit",
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Versions kept",
            (f"contlearn_registry_versions{{{MODEL}}}", ""),
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Best proven version",
            (f"contlearn_best_proven_version{{{MODEL}}}", "{{model}}"),
            width=4,
            height=6,
            about="Small losses of many updates are counted from it.",
        ),
        panel(
            "timeseries",
            "The champion against the best proven version",
            (f"contlearn_best_proven_difference_ratio{{{MODEL}}}", "{{model}}"),
            unit="percentunit",
            width=20,
            height=6,
            about="On old held-out rows; below 0 the champion is worse. A new version that is worse by the margin is kept back.",
        ),
        row("Memory"),
        panel(
            "status-history",
            "Accuracy by experience",
            (f"contlearn_experience_accuracy_ratio{{{MODEL}}}", "slot {{slot}}"),
            unit="percentunit",
            width=12,
            height=10,
            bounds=(0, 1),
            steps=[("dark-red", None), ("orange", 0.5), ("yellow", 0.7), ("green", 0.85)],
            about="The last twenty experiences; a slot means one experience until the twentieth after it.",
        ),
        panel(
            "status-history",
            "Forgetting by experience",
            (f"contlearn_forgetting_ratio{{{MODEL}}}", "slot {{slot}}"),
            unit="percentunit",
            width=12,
            height=10,
            steps=[("green", None), ("yellow", 0.03), ("orange", 0.1), ("dark-red", 0.25)],
        ),
        panel(
            "bargauge",
            "Which experience a slot stands for",
            (f"contlearn_experience_index{{{MODEL}}}", "slot {{slot}}"),
            width=12,
            height=8,
        ),
        panel(
            "timeseries",
            "Champion and challenger",
            (f"contlearn_eval_score_ratio{{{MODEL}}}", "{{role}} {{metric}}"),
            unit="percentunit",
            width=12,
            bounds=(0, 1),
        ),
        row("Decisions"),
        panel(
            "status-history",
            "Rules of the gate, last challenger",
            (f"contlearn_gate_last_passed{{{MODEL}}}", "{{check}}"),
            width=8,
            steps=[("red", None), ("green", 1.0)],
            bounds=(0, 1),
            about="Red: the rule refused, or found the challenger not worth the change.",
        ),
        panel(
            "timeseries",
            "Margin of each rule",
            (f"contlearn_gate_last_margin_ratio{{{MODEL}}}", "{{check}}"),
            unit="percentunit",
            width=8,
            about="Measured minus required; below zero refuses, or is not worth the change.",
        ),
        panel(
            "timeseries",
            "Chance of a true loss, few old rows",
            (f"contlearn_gate_last_chance_of_loss_ratio{{{MODEL}}}", "chance"),
            unit="percentunit",
            width=8,
            bounds=(0, 1),
            about="That the last challenger is truly worse by gate.margin or more; at most "
            "gate.chance_of_loss is promoted. Nothing where there are old rows enough.",
        ),
        panel(
            "timeseries",
            "Updates by outcome",
            (f"contlearn_runs_total{{{MODEL}}}", "{{outcome}}"),
            width=8,
        ),
        panel(
            "timeseries",
            "Promotions and rollbacks",
            (f"contlearn_promotions_total{{{MODEL}}}", "{{kind}}"),
            width=8,
        ),
        panel(
            "timeseries",
            "An update is running",
            (f"contlearn_run_in_progress{{{MODEL}}}", "running"),
            width=8,
            bounds=(0, 1),
        ),
        panel(
            "timeseries",
            "Seconds of the last update, by stage",
            (f"contlearn_run_last_stage_duration_seconds{{{MODEL}}}", "{{stage}}"),
            unit="s",
            stack=True,
            width=8,
        ),
        panel(
            "stat",
            "Last update took",
            (f"contlearn_run_last_duration_seconds{{{MODEL}}}", ""),
            unit="s",
            width=4,
        ),
        panel(
            "stat",
            "Since the last update began",
            (f"time() - contlearn_run_last_start_timestamp_seconds{{{MODEL}}}", ""),
            unit="s",
            width=4,
        ),
        panel(
            "stat",
            "Since the last update that did not fail",
            (f"time() - contlearn_run_last_success_timestamp_seconds{{{MODEL}}}", ""),
            unit="s",
            width=4,
        ),
        panel(
            "stat",
            "Next scheduled update in",
            (f"contlearn_schedule_next_run_timestamp_seconds{{{MODEL}}} - time()", ""),
            unit="s",
            width=4,
            about="Empty without a schedule.",
        ),
        row("In production"),
        panel(
            "timeseries",
            "Accuracy: estimated without labels, measured, on held-out rows",
            (f"contlearn_estimated_accuracy_ratio{{{MODEL}}}", "estimated, {{bound}}"),
            (f'contlearn_measured_accuracy_ratio{{{MODEL},bound="point"}}', "measured"),
            (f"contlearn_held_out_accuracy_ratio{{{MODEL}}}", "held-out rows"),
            unit="percentunit",
            width=12,
            about="The estimate holds while texts change within what the model knows; with a drift alarm its lower bound is opened.",
        ),
        panel(
            "timeseries",
            "How often chance does what the detectors saw (corrected)",
            (f"contlearn_drift_p_value{{{MODEL}}}", "{{detector}} of {{target}}"),
            width=12,
            bounds=(0, 1),
            about="The lower, the less it is chance; an alarm begins at monitoring.drift_level.",
        ),
        panel(
            "stat",
            "Drift alarm, looks in a row",
            (f"contlearn_drift_consecutive_looks{{{MODEL}}}", "{{model}}"),
            width=4,
            height=5,
            steps=[("green", None), ("orange", 1), ("red", 2)],
        ),
        panel(
            "stat",
            "Drift alarm",
            (f"contlearn_drift_alarm{{{MODEL}}}", "{{model}}"),
            width=4,
            height=5,
            steps=[("green", None), ("red", 1)],
        ),
        panel(
            "stat",
            "Accuracy dropped",
            (f"contlearn_accuracy_dropped{{{MODEL}}}", "{{kind}}"),
            width=4,
            height=5,
            steps=[("green", None), ("red", 1)],
        ),
        panel(
            "stat",
            "Labels that came back in the window",
            (f"contlearn_measured_accuracy_records{{{MODEL}}}", "{{model}}"),
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Since the last look",
            (f"time() - contlearn_look_last_timestamp_seconds{{{MODEL}}}", "{{model}}"),
            unit="s",
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Calibration error",
            (f"contlearn_calibration_error_ratio{{{MODEL}}}", "{{model}}"),
            unit="percentunit",
            width=4,
            height=5,
            steps=[("green", None), ("orange", 0.05), ("red", 0.1)],
        ),
        panel(
            "bargauge",
            "Label rates of named slices: largest difference from all other rows",
            (f"contlearn_slice_label_difference_ratio{{{MODEL}}}", "{{slice}}"),
            unit="percentunit",
            width=24,
            height=5,
            bounds=(0, 1),
        ),
    ]
    return dashboard(
        "contlearn-model",
        "contlearn: one model",
        "Accuracy, forgetting and decisions of one model.",
        panels,
        all_models=False,
    )


def serving() -> Panel:
    """The server: rate, errors, latency, queue, swaps."""
    infer = 'route=~"/predict|/v2/models/.*infer"'
    panels = [
        panel(
            "timeseries",
            "Requests",
            ("sum by (route) (rate(contlearn_http_requests_total[5m]))", "{{route}}"),
            unit="reqps",
            width=12,
        ),
        panel(
            "timeseries",
            "Answers by code",
            ("sum by (code) (rate(contlearn_http_requests_total[5m]))", "{{code}}"),
            unit="reqps",
            width=12,
        ),
        panel(
            "timeseries",
            "Latency",
            *(
                (
                    f"histogram_quantile({q}, sum by (le) (rate(contlearn_http_request_duration_seconds_bucket{{{infer}}}[5m])))",
                    f"{share} in 100",
                )
                for q, share in ((0.5, 50), (0.9, 90), (0.99, 99))
            ),
            unit="s",
            width=12,
        ),
        panel(
            "heatmap",
            "Latency, all requests",
            (
                f"sum by (le) (increase(contlearn_http_request_duration_seconds_bucket{{{infer}}}[1m]))",
                "{{le}}",
            ),
            unit="s",
            width=12,
            heat=True,
        ),
        panel(
            "timeseries",
            "Queue and compute",
            (
                f"histogram_quantile(0.99, sum by (phase, le) (rate(contlearn_infer_duration_seconds_bucket{{{MODEL}}}[5m])))",
                "{{phase}}, 99 in 100",
            ),
            unit="s",
            width=8,
        ),
        panel(
            "timeseries",
            "Waiting texts and open requests",
            (f"contlearn_infer_queue_depth{{{MODEL}}}", "texts"),
            (f"contlearn_infer_in_flight{{{MODEL}}}", "requests"),
            width=8,
        ),
        panel(
            "timeseries",
            "Turned away",
            (
                f"sum by (reason) (rate(contlearn_infer_rejected_total{{{MODEL}}}[5m]))",
                "{{reason}}",
            ),
            unit="reqps",
            width=8,
        ),
        panel(
            "timeseries",
            "Texts answered together",
            (
                f"sum(rate(contlearn_infer_batch_rows_sum{{{MODEL}}}[5m])) / sum(rate(contlearn_infer_batch_rows_count{{{MODEL}}}[5m]))",
                "mean",
            ),
            width=8,
        ),
        panel(
            "timeseries",
            "Served version",
            (f"contlearn_model_version{{{MODEL}}}", "served {{instance}}"),
            (f"contlearn_promoted_version{{{MODEL}}}", "promoted"),
            width=8,
        ),
        panel(
            "timeseries",
            "Version that could not be loaded",
            (f"contlearn_model_rejected_version{{{MODEL}}}", "{{instance}}"),
            width=8,
        ),
        panel(
            "timeseries", "Loads", (f"contlearn_reloads_total{{{MODEL}}}", "{{outcome}}"), width=8
        ),
        panel(
            "timeseries",
            "Workers replaced",
            ("increase(contlearn_workers_replaced_total[1h])", "{{reason}}, {{instance}}"),
            width=8,
            about="Ended: a worker process died. Silent: it stood still, or took too long.",
        ),
        panel(
            "timeseries",
            "Seconds of a load",
            (
                f"sum(rate(contlearn_reload_duration_seconds_sum{{{MODEL}}}[1h])) / sum(rate(contlearn_reload_duration_seconds_count{{{MODEL}}}[1h]))",
                "mean",
            ),
            unit="s",
            width=8,
        ),
        panel(
            "stat",
            "Since the version was loaded",
            (f"time() - contlearn_model_loaded_timestamp_seconds{{{MODEL}}}", "{{instance}}"),
            unit="s",
            width=8,
        ),
        panel(
            "timeseries",
            "Predicted labels",
            (
                f"topk(10, sum by (label) (rate(contlearn_predictions_total{{{MODEL}}}[15m])))",
                "{{label}}",
            ),
            unit="reqps",
            stack=True,
            width=12,
        ),
        panel(
            "heatmap",
            "Confidence",
            (
                f"sum by (le) (increase(contlearn_prediction_confidence_ratio_bucket{{{MODEL}}}[5m]))",
                "{{le}}",
            ),
            width=12,
            heat=True,
        ),
        panel(
            "timeseries",
            "Texts cut at the token limit",
            (f"rate(contlearn_inputs_truncated_total{{{MODEL}}}[5m])", "cut"),
            unit="reqps",
            width=8,
        ),
        panel(
            "timeseries",
            "Prediction log",
            (
                f"sum by (outcome) (rate(contlearn_prediction_log_records_total{{{MODEL}}}[5m]))",
                "{{outcome}}",
            ),
            unit="reqps",
            width=8,
        ),
        panel(
            "timeseries",
            "Labels sent back",
            (f"contlearn_feedback_total{{{MODEL}}}", "{{outcome}}"),
            width=8,
        ),
        panel(
            "timeseries",
            "Unknown texts",
            (f"rate(contlearn_unknown_texts_total{{{MODEL}}}[5m])", "flagged"),
            unit="reqps",
            width=6,
        ),
        panel(
            "timeseries",
            "Canary and shadow",
            (f"contlearn_model_role_info{{{MODEL}}}", "{{role}} {{version}}"),
            width=6,
        ),
        panel(
            "timeseries",
            "Requests of the canary",
            (
                f"sum by (outcome) (rate(contlearn_canary_requests_total{{{MODEL}}}[5m]))",
                "{{outcome}}",
            ),
            (f"increase(contlearn_canary_stops_total{{{MODEL}}}[5m])", "stopped: {{reason}}"),
            width=6,
        ),
        panel(
            "timeseries",
            "Shadow beside champion",
            (
                f"sum by (outcome) (rate(contlearn_shadow_texts_total{{{MODEL}}}[5m]))",
                "{{outcome}}",
            ),
            unit="reqps",
            width=6,
        ),
    ]
    return dashboard(
        "contlearn-serving",
        "contlearn: serving",
        "Rate, errors, latency, queue and swaps of the servers.",
        panels,
        all_models=True,
    )


def data() -> Panel:
    """What comes in: inflow, quarantine, labels, drift."""
    panels = [
        panel(
            "stat",
            "Waiting",
            (f"contlearn_ingest_pending_records{{{MODEL}}}", "{{model}}"),
            (f"contlearn_kept_records{{{MODEL}}}", "{{model}}, kept"),
            width=4,
            height=5,
            about=KEPT,
        ),
        panel(
            "stat",
            "Held",
            (f"contlearn_held_records{{{MODEL}}}", "{{model}}"),
            width=4,
            height=5,
            steps=OK,
        ),
        panel(
            "stat",
            "Learnt",
            (f"contlearn_learnt_records{{{MODEL}}}", "{{model}}"),
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Kept for measuring",
            (f"contlearn_held_out_records{{{MODEL}}}", "{{model}}"),
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Oldest waiting record",
            (f"time() - contlearn_ingest_oldest_pending_timestamp_seconds{{{MODEL}}}", "{{model}}"),
            unit="s",
            width=4,
            height=5,
        ),
        panel(
            "stat",
            "Newest record",
            (f"time() - contlearn_ingest_last_record_timestamp_seconds{{{MODEL}}}", "{{model}}"),
            unit="s",
            width=4,
            height=5,
        ),
        panel(
            "timeseries",
            "Rows by what became of them",
            (
                f"sum by (outcome) (increase(contlearn_ingest_records_total{{{MODEL}}}[1h]))",
                "{{outcome}}",
            ),
            stack=True,
            width=8,
        ),
        panel(
            "timeseries",
            "Files by verdict",
            (
                f"sum by (outcome) (increase(contlearn_ingest_files_total{{{MODEL}}}[1h]))",
                "{{outcome}}",
            ),
            stack=True,
            width=8,
        ),
        panel(
            "timeseries",
            "Refused rows by reason",
            (
                f'contlearn_ingest_quarantined_records_total{{{MODEL}}} > 0 or contlearn_ingest_quarantined_records_total{{{MODEL},reason="other"}}',
                "{{reason}}",
            ),
            stack=True,
            width=8,
        ),
        row("Drift"),
        panel(
            "timeseries",
            "Drift",
            (f'contlearn_drift_score{{{MODEL},detector="psi"}}', "{{detector}} of {{target}}"),
            (f"contlearn_drift_threshold{{{MODEL}}}", "threshold of {{detector}}, {{target}}"),
            width=12,
            about="The threshold is what chance reaches in one window of a hundred, or the configured one if that is higher.",
        ),
        panel(
            "status-history",
            "Alarms",
            (f"contlearn_drift_detected{{{MODEL}}}", "{{detector}} of {{target}}"),
            width=12,
            steps=OK,
            bounds=(0, 1),
        ),
        panel(
            "timeseries",
            "Records judged",
            (f"contlearn_drift_window_records{{{MODEL}}}", "{{detector}} of {{target}}"),
            width=12,
        ),
        panel(
            "timeseries",
            "Predicted labels",
            (
                f"topk(10, sum by (label) (rate(contlearn_predictions_total{{{MODEL}}}[1h])))",
                "{{label}}",
            ),
            unit="reqps",
            stack=True,
            width=12,
        ),
    ]
    return dashboard(
        "contlearn-data",
        "contlearn: data",
        "Inflow, quarantine and drift.",
        panels,
        all_models=True,
    )


def build() -> dict[str, str]:
    """Give every dashboard as the text of its file."""
    made = {"fleet": fleet(), "model": quality(), "serving": serving(), "data": data()}
    return {f"{name}.json": json.dumps(value, indent=1) + "\n" for name, value in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, text in build().items():
        (FOLDER / file_name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{file_name}\n")
