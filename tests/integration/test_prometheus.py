"""A real Prometheus scrapes a daemon's and a server's metrics, and the dashboards find their data."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from prometheus_client import start_http_server

from contlearn.telemetry.measures import MEASURES
from contlearn.telemetry.metrics import (
    AccuracyReading,
    DaemonCollector,
    DaemonSnapshot,
    DriftReading,
    LookReading,
    make_registry,
)
from tests.scraping import DASHBOARDS, prometheus, queries_of
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version

pytestmark = pytest.mark.slow


def snapshot(now):
    """Everything a daemon can know, after some updates."""
    return DaemonSnapshot(
        model="tickets",
        promoted_version=1,
        promotion_at=now - 100,
        promotions={"promote": 3, "rollback": 1},
        versions=4,
        average_accuracy=0.9,
        forgetting=0.02,
        backward_transfer=-0.01,
        accuracies=[0.9, 0.85, 0.95],
        forgettings=[0.01, 0.03, 0.0],
        champion_scores={"accuracy": 0.9},
        challenger_scores={"accuracy": 0.91},
        label_agreement=0.998,
        best_version=1,
        best_difference=0.0,
        gate=[
            {"rule": "gain", "passed": True, "measured": 0.05, "required": 0.0},
            {
                "rule": "no-regression",
                "passed": True,
                "measured": 0.1,
                "required": 0.3,
                "measure": "chance_of_loss",
            },
        ],
        outcomes={"promoted": 3, "refused": 1},
        last_start_at=now - 200,
        last_completion_at=now - 100,
        last_success_at=now - 100,
        last_seconds=100.0,
        stage_seconds={"training": 80.0, "exporting": 20.0},
        files={"ok": 3},
        ingested={"accepted": 100, "rejected": 2},
        quarantined={"not-json": 2},
        pending=5,
        learnt=90,
        held_out=10,
        oldest_pending_at=now - 50,
        last_record_at=now - 40,
        next_run_at=now + 1000,
        drift=[
            DriftReading(
                detector="psi",
                target=target,
                score=0.05,
                threshold=0.2,
                detected=False,
                window_records=500,
                p_value=0.4,
            )
            for target in ("label", "prediction")
        ],
        look=LookReading(
            at=now - 30,
            accuracies=[
                AccuracyReading(
                    kind=kind, value=0.88, low=0.85, high=0.91, dropped=False, records=200
                )
                for kind in ("estimated", "measured")
            ],
            held_out_accuracy=0.9,
            calibration_error=0.02,
        ),
        slices={"german": 0.03},
        disk_free_bytes={"workspace": 10**11},
        unattended={
            "notifications_waiting": 0.0,
            "daemon_failures_in_a_row": 0.0,
            "probation": 1.0,
            "disk_missing_bytes": 0.0,
        },
        triggers={"count": 3, "schedule": 1},
    )


@pytest.fixture(scope="module")
def query(tmp_path_factory):
    """A Prometheus with our rules that has scraped both for some seconds; gives what asks it."""
    root = tmp_path_factory.mktemp("prometheus")
    workspace = make_workspace(root / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    registry = make_registry()
    registry.register(
        DaemonCollector(
            lambda: snapshot(time.time()),
            heartbeat=time.time,
            blocked=lambda: {"tickets": False},
        )
    )
    daemon, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        with running(settings_of(workspace)) as server:
            wait_for(lambda: server.service.is_ready)
            # The server takes roles away that nobody has; this one it does not know.
            server.service.metrics.role("rehearsal", 2)
            here = server.address.removeprefix("http://")
            there = f"127.0.0.1:{daemon.server_port}"
            with (
                prometheus(root, daemon=there, server=here) as ask,
                httpx.Client(base_url=server.address) as client,
            ):
                until = time.monotonic() + 6
                while time.monotonic() < until:
                    client.post("/predict", json={"texts": ["my parcel", "a refund"]})
                    time.sleep(0.1)
                yield ask
    finally:
        daemon.shutdown()
        daemon.server_close()
        thread.join()


def test_prometheus_stores_every_metric_of_the_table(query):
    for measure in MEASURES:
        for series in measure.series:
            assert query(series), series


def test_no_alert_fires_when_all_is_well(query):
    assert [alert["metric"]["alertname"] for alert in query("ALERTS")] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_query_of_a_dashboard_returns_data(query, path):
    dashboard = json.loads(path.read_bytes())
    asked = queries_of(dashboard, "tickets")
    assert [(title, expression) for title, expression in asked if not query(expression)] == []
    for annotation in dashboard["annotations"]["list"]:
        query(annotation["expr"].replace("$model", "tickets"))
