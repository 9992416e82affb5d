"""A real Prometheus scrapes a daemon's and a server's metrics, and the dashboards find their data."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

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
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
        gate=[{"rule": "gain", "passed": True, "measured": 0.05, "required": 0.0}],
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
def prometheus(tmp_path_factory):
    """A Prometheus with our rules that has scraped both for some seconds; gives its API."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs prometheus (Debian package prometheus)")
    root = tmp_path_factory.mktemp("prometheus")
    workspace = make_workspace(root / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    registry = make_registry()
    registry.register(DaemonCollector(lambda: [snapshot(time.time())], heartbeat=time.time))
    daemon, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    port = free_port()
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        # The server takes roles away that nobody has; this one it does not know.
        server.service.metrics.role("rehearsal", 2)
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
        text = text.replace("15s", "1s").replace("rules/*.yml", f"{DEPLOY}/prometheus/rules/*.yml")
        text = text.replace("127.0.0.1:9108", f"127.0.0.1:{daemon.server_port}")
        text = text.replace("127.0.0.1:8080", server.address.removeprefix("http://"))
        (root / "prometheus.yml").write_text(text)
        process = subprocess.Popen(
            [
                program,
                f"--config.file={root}/prometheus.yml",
                f"--storage.tsdb.path={root}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as api:

                def query(expression):
                    answer = api.get("/query", params={"query": expression}).json()
                    assert answer["status"] == "success", (expression, answer)
                    return answer["data"]["result"]

                def is_up():
                    try:
                        return len([s for s in query("up") if s["value"][1] == "1"]) == 2
                    except (httpx.TransportError, KeyError, ValueError):
                        return False

                wait_for(is_up, 120)
                with httpx.Client(base_url=server.address) as client:
                    until = time.monotonic() + 6
                    while time.monotonic() < until:
                        client.post("/predict", json={"texts": ["my parcel", "a refund"]})
                        time.sleep(0.1)
                yield query
        finally:
            process.terminate()
            process.wait(20)
            daemon.shutdown()
            daemon.server_close()
            thread.join()


def test_prometheus_stores_every_metric_of_the_table(prometheus):
    for measure in MEASURES:
        for series in measure.series:
            assert prometheus(series), series


def test_no_alert_fires_when_all_is_well(prometheus):
    assert [alert["metric"]["alertname"] for alert in prometheus("ALERTS")] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_query_of_a_dashboard_returns_data(prometheus, path):
    dashboard = json.loads(path.read_bytes())
    empty = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$model", "tickets")
            if not prometheus(expression):
                empty.append((panel["title"], expression))
    assert empty == []
    for annotation in dashboard["annotations"]["list"]:
        prometheus(annotation["expr"].replace("$model", "tickets"))
