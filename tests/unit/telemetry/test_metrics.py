from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from contlearn.telemetry.measures import DAEMON, SERVER, SLOTS, TOP_LABELS, by_name
from contlearn.telemetry.metrics import (
    OUTCOMES,
    AccuracyReading,
    DaemonCollector,
    DaemonSnapshot,
    DriftReading,
    LookReading,
    encode_metrics,
    make_registry,
    seconds_of,
)
from contlearn.telemetry.server_metrics import REJECTIONS, Instruments, ServerMetrics

STATUS = {
    "model": "tickets",
    "champion": {
        "version": 7,
        "promoted_at": "2030-01-01T00:00:10+00:00",
        "metrics": {
            "accuracy": 0.9,
            "average_accuracy": 0.88,
            "forgetting": 0.01,
            "backward_transfer": -0.01,
        },
    },
    "versions": 9,
    "pending_records": 12,
    "held_records": 3,
    "learnt_records": 100,
    "held_out_records": 20,
    "oldest_pending": "2030-01-01T00:00:00+00:00",
    "last_cycle": {"started_at": "2030-01-01T00:00:00+00:00"},
    "last_success": {
        "started_at": "2030-01-01T00:00:00+00:00",
        "ended_at": "2030-01-01T00:02:00+00:00",
        "outcome": "promoted",
        "metrics": {"accuracy": 0.9, "average_accuracy": 0.88, "loss": 3.0, "note": "x"},
        "numbers": {"seconds": {"training": 60.0, "exporting": 20.0}},
        "reasons": [
            {"rule": "no-regression", "passed": True, "measured": 0.01, "required": -0.03},
            {"rule": "gain", "passed": None, "measured": None, "required": None},
        ],
    },
    "running_cycle": None,
    "outcomes": {"promoted": 4, "refused": 1},
    "ingested": {"accepted": 140, "duplicates": 5, "conflicts": 2, "rejected": 7},
}


STATUS["last_ended"] = STATUS["last_success"]


def scrape(*snapshots, heartbeat=lambda: 5.0):
    registry = make_registry()
    registry.register(DaemonCollector(*(lambda s=s: s for s in snapshots), heartbeat=heartbeat))
    body, _ = encode_metrics(registry)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def test_what_the_daemon_says_about_itself_is_shown():
    samples = scrape(DaemonSnapshot.from_status(STATUS))
    assert samples[("contlearn_notifications_waiting", "tickets")] == 0
    assert ("contlearn_daemon_failures_in_a_row", "tickets") not in samples  # none has run here
    daemon = {"failures": 2, "probation": {"verdict": ""}, "disk": {"missing_bytes": 7}}
    more = {"daemon": daemon, "notifications_waiting": 3, "triggers": {"drift": 4}}
    samples = scrape(DaemonSnapshot.from_status({**STATUS, **more}))
    assert samples[("contlearn_daemon_failures_in_a_row", "tickets")] == 2
    assert samples[("contlearn_probation", "tickets")] == 1
    assert samples[("contlearn_disk_missing_bytes", "tickets")] == 7
    assert samples[("contlearn_notifications_waiting", "tickets")] == 3
    assert samples[("contlearn_triggers_total", "drift", "tickets")] == 4


def test_snapshot_from_status_shows_what_status_says():
    samples = scrape(DaemonSnapshot.from_status(STATUS))
    assert samples[("contlearn_promoted_version", "tickets")] == 7
    assert samples[("contlearn_champion_info", "7", "tickets")] == 1
    assert samples[("contlearn_average_accuracy_ratio", "tickets")] == 0.88
    assert samples[("contlearn_backward_transfer_ratio", "tickets")] == -0.01
    assert samples[("contlearn_eval_score_ratio", "accuracy", "champion", "tickets")] == 0.9
    assert samples[("contlearn_eval_score_ratio", "accuracy", "challenger", "tickets")] == 0.9
    assert ("contlearn_eval_score_ratio", "challenger", "loss", "tickets") not in samples
    assert samples[("contlearn_run_last_duration_seconds", "tickets")] == 120
    assert samples[("contlearn_run_last_stage_duration_seconds", "tickets", "training")] == 60
    assert samples[("contlearn_ingest_pending_records", "tickets")] == 12
    assert samples[("contlearn_ingest_records_total", "duplicate", "tickets")] == 5
    assert samples[("contlearn_gate_last_passed", "no-regression", "tickets")] == 1
    assert ("contlearn_gate_last_passed", "gain", "tickets") not in samples
    assert samples[
        ("contlearn_gate_last_margin_ratio", "no-regression", "tickets")
    ] == pytest.approx(0.04)
    assert samples[("contlearn_daemon_heartbeat_timestamp_seconds",)] == 5.0


@pytest.mark.parametrize("unlike", [{}, {"mean_distance": {"unit": "points"}}])
def test_chance_of_a_loss_by_few_rows_has_a_gauge_of_its_own_and_no_margin(unlike):
    reason = {"rule": "no-regression", "passed": True, "measured": 0.12, "required": 0.3}
    reasons = [{**reason, "measure": "chance_of_loss"}]
    last = {**STATUS["last_success"], "reasons": reasons}
    samples = scrape(
        DaemonSnapshot.from_status({**STATUS, "last_success": last, "measures": unlike})
    )
    assert samples[("contlearn_gate_last_chance_of_loss_ratio", "tickets")] == 0.12
    assert samples[("contlearn_gate_last_passed", "no-regression", "tickets")] == 1
    assert not [key for key in samples if key[0] == "contlearn_gate_last_margin_ratio"]


def test_what_has_a_unit_is_no_ratio():
    unlike = {"unit": "points", "higher_is_better": False}
    own = {"primary_metric": "mean_distance", "measures": {"mean_distance": unlike}}
    metrics = {"mean_distance": 0.8, "average_accuracy": 0.8, "forgetting": 0.3, "within_one": 0.9}
    samples = scrape(
        DaemonSnapshot.from_status(
            {
                **STATUS,
                **own,
                "champion": {**STATUS["champion"], "metrics": metrics},
                "last_success": {**STATUS["last_success"], "metrics": metrics},
            }
        )
    )
    ratios = {key for key in samples if key[0].endswith("_ratio")}
    assert ratios == {
        ("contlearn_eval_score_ratio", role, "tickets", "within_one")
        for role in ("champion", "challenger")
    }
    assert samples[("contlearn_gate_last_passed", "no-regression", "tickets")] == 1


def test_label_combinations_are_there_before_anything_happened():
    samples = scrape(DaemonSnapshot(model="new"))
    for outcome in OUTCOMES:
        assert samples[("contlearn_runs_total", *sorted(("new", outcome)))] == 0
    assert samples[("contlearn_promoted_version", "new")] == 0
    assert samples[("contlearn_promotions_total", "new", "rollback")] == 0
    assert samples[("contlearn_ingest_quarantined_records_total", "new", "other")] == 0
    assert ("contlearn_average_accuracy_ratio", "new") not in samples


def test_experiences_keep_their_slot_and_their_number_is_bounded():
    many = [index / 100 for index in range(SLOTS + 3)]
    samples = scrape(DaemonSnapshot(model="m", accuracies=many, forgettings=many))
    shown = {
        key[1]: value for key, value in samples.items() if key[0] == "contlearn_experience_index"
    }
    assert len(shown) == SLOTS
    assert shown["02"] == SLOTS + 2
    assert shown["03"] == 3
    assert samples[("contlearn_experience_accuracy_ratio", "02", "m")] == 0.22
    assert samples[("contlearn_forgetting_ratio", "03", "m")] == 0.03


def test_reasons_of_refused_rows_are_bounded():
    reasons = {f"reason-{number:03d}": number for number in range(100)}
    samples = scrape(DaemonSnapshot(model="m", quarantined=reasons))
    shown = [key for key in samples if key[0] == "contlearn_ingest_quarantined_records_total"]
    assert len(shown) == 41
    assert sum(samples[key] for key in shown) == sum(reasons.values())


def test_drift_readings_are_shown_with_their_threshold():
    reading = DriftReading(
        detector="psi", target="label", score=0.4, threshold=0.2, detected=True, window_records=500
    )
    samples = scrape(DaemonSnapshot(model="m", drift=[reading]))
    assert samples[("contlearn_drift_score", "label", "m", "psi")] == 0.4
    assert samples[("contlearn_drift_detected", "label", "m", "psi")] == 1


def test_a_snapshot_that_fails_is_counted_and_the_scrape_goes_on():
    def broken():
        raise OSError("the catalog is gone")

    registry = make_registry()
    first, last = (DaemonSnapshot(model=name, pending=3) for name in ("first", "last"))
    registry.register(DaemonCollector(lambda: first, broken, lambda: last))
    encode_metrics(registry)
    text = encode_metrics(registry)[0].decode()
    assert "contlearn_snapshot_failures_total 2.0" in text
    for model in ("first", "last"):
        assert f'contlearn_ingest_pending_records{{model="{model}"}} 3.0' in text


def test_both_formats_parse_strictly_and_hold_no_created_series():
    registry = make_registry()
    registry.register(DaemonCollector(lambda: DaemonSnapshot.from_status(STATUS)))
    plain, kind = encode_metrics(registry)
    assert kind.startswith("text/plain")
    openmetrics, kind = encode_metrics(registry, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(openmetrics.decode())}
    assert names == {measure.name.removesuffix("_total") for measure in DAEMON}
    assert b"_created" not in plain + openmetrics


def test_server_metrics_are_those_of_the_table_and_initialised():
    registry = make_registry()
    ServerMetrics(registry, "m")
    text = encode_metrics(registry)[0].decode()
    families = {f.name + ("_total" if f.type == "counter" else "") for f in parse_text(text)}
    assert families == {measure.name for measure in SERVER}
    for reason in REJECTIONS:
        assert f'contlearn_infer_rejected_total{{model="m",reason="{reason}"}} 0.0' in text


def test_server_metrics_take_the_old_version_away():
    registry = make_registry()
    metrics = ServerMetrics(registry, "m")
    metrics.loaded(3, ["a"], 1.0)
    metrics.loaded(4, ["a"], 2.0)
    text = encode_metrics(registry)[0].decode()
    assert 'contlearn_champion_info{model="m",version="4"} 1.0' in text
    assert 'version="3"' not in text


def test_predicted_labels_are_bounded():
    registry = make_registry()
    metrics = ServerMetrics(registry, "m")
    names = [f"label-{number}" for number in range(TOP_LABELS + 30)]
    metrics.loaded(1, names, 1.0)
    for name in names:
        metrics.answered(name)
    text = encode_metrics(registry)[0].decode()
    assert text.count("contlearn_predictions_total{") == TOP_LABELS + 1
    assert 'contlearn_predictions_total{label="other",model="m"} 30.0' in text


def test_seconds_of_reads_every_form_of_moment():
    assert seconds_of("1970-01-01T00:00:05+00:00") == 5
    assert seconds_of(7) == 7
    assert seconds_of(None) is None
    assert seconds_of("") is None


def test_by_name_gives_the_measure():
    assert by_name("contlearn_runs_total").kind == "counter"


def test_request_ids_are_exemplars_of_latencies_in_openmetrics():
    registry = make_registry()
    instruments = Instruments(registry)
    instruments.request("m", "/predict", method="POST", code=200, seconds=0.002, request_id="first")
    instruments.request(
        "m", "/predict", method="POST", code=200, seconds=0.003, request_id="within the same second"
    )
    instruments.request(
        "m", "/predict", method="POST", code=200, seconds=0.7, request_id="slow" + "x" * 200
    )
    body, content_type = encode_metrics(registry, "application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in content_type
    found = {
        sample.exemplar.labels["request_id"]: sample.exemplar.value
        for family in parse_openmetrics(body.decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert found == {"first": 0.002, "slow" + "x" * 96: 0.7}
    plain, _ = encode_metrics(registry)
    assert b"request_id" not in plain


def test_look_at_production_is_shown_and_slices_are_bounded():
    reading = AccuracyReading(
        kind="measured", value=0.7, low=0.6, high=0.8, dropped=True, records=90
    )
    look = LookReading(
        at=5.0, alarm=True, consecutive=2, accuracies=[reading], held_out_accuracy=0.9
    )
    slices = {f"slice-{number:02d}": 0.1 for number in range(50)}
    samples = scrape(DaemonSnapshot(model="m", look=look, slices=slices))
    names = [key[0] for key in samples]
    assert names.count("contlearn_slice_label_difference_ratio") == 30
    assert samples["contlearn_drift_alarm", "m"] == 1
    assert samples["contlearn_measured_accuracy_records", "m"] == 90
    assert samples["contlearn_measured_accuracy_ratio", "m", "upper"] == 0.8
    assert samples["contlearn_accuracy_dropped", "m", "measured"] == 1
    assert "contlearn_calibration_error_ratio" not in names
    assert "contlearn_estimated_accuracy_ratio" not in names
