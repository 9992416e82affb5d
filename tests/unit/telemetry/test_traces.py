from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from contlearn.telemetry.traces import CycleTraces, Traces, configured_traces, traced_part
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version

sdk = pytest.importorskip("opentelemetry.sdk.trace")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def memory():
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Traces(provider), exporter
    provider.shutdown()


def test_an_update_is_one_trace_with_a_span_for_each_state(memory):
    traces, exporter = memory
    hear, start = CycleTraces(traces).hear, datetime(2030, 1, 1, tzinfo=UTC)
    hear("cycle-started", start, {"cycle": "c1", "trigger": "count"})
    hear("cycle-state", start + timedelta(seconds=1), {"cycle": "c1", "state": "training"})
    hear("cycle-state", start + timedelta(seconds=61), {"cycle": "c1", "state": "exporting"})
    assert exporter.get_finished_spans() == ()
    ended = {"cycle": "c1", "outcome": "promoted", "version": 3}
    hear("cycle-ended", start + timedelta(seconds=71), ended)
    hear("cycle-ended", start, {"cycle": "unknown"})
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"update", "planned", "training", "exporting"}
    root = spans.pop("update")
    assert root.attributes["contlearn.version"] == 3
    assert root.end_time - root.start_time == 71 * 10**9
    assert spans["training"].end_time - spans["training"].start_time == 60 * 10**9
    assert all(span.parent.span_id == root.context.span_id for span in spans.values())
    assert all(span.context.trace_id == root.context.trace_id for span in spans.values())


def test_a_request_is_one_trace_and_joins_that_of_its_client(memory, tmp_path):
    traces, exporter = memory
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    with running(settings_of(workspace)) as server:
        server.site.traces = traces
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address) as client:
            headers = {"traceparent": PARENT, "x-request-id": "mine"}
            client.post("/predict", json={"texts": ["a refund"]}, headers=headers)
            client.post("/predict", json={"texts": []}, headers={"x-request-id": "bad"})
        wait_for(lambda: len(exporter.get_finished_spans()) >= 3)
    by_id = {
        span.attributes["contlearn.request_id"]: span
        for span in exporter.get_finished_spans()
        if "contlearn.request_id" in (span.attributes or {})
    }
    mine, bad = by_id["mine"], by_id["bad"]
    assert mine.name == "POST /predict"
    assert f"{mine.context.trace_id:032x}" == PARENT.split("-")[1]
    assert mine.attributes["http.response.status_code"] == 200
    (infer,) = [
        span
        for span in exporter.get_finished_spans()
        if span.name == "infer" and span.parent.span_id == mine.context.span_id
    ]
    assert mine.start_time <= infer.start_time <= infer.end_time <= mine.end_time
    assert bad.context.trace_id != mine.context.trace_id
    assert "refund" not in "".join(str(span.to_json()) for span in exporter.get_finished_spans())


def test_without_a_collector_nothing_is_imported_and_parts_cost_nothing():
    assert configured_traces() is None
    with traced_part("anything"):
        pass
    code = (
        "import sys, contlearn.telemetry.traces as t; t.configured_traces();"
        "sys.exit(any(m.startswith('opentelemetry') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
