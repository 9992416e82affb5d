"""docs/metrics.md, the rules, the dashboards and the code name the same metrics."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from contlearn.telemetry.measures import MEASURES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
NAME = re.compile(r"(?<![:\w])contlearn_\w+")
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
SERIES = {series for measure in MEASURES for series in measure.series}
# Files that belong to running things, not metrics.
OTHER_NAMES = {"contlearn_onnxruntime"}


def documented():
    rows = {}
    for line in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if len(cells) == 6 and cells[0].startswith("`contlearn_"):
            rows[cells[0].strip("`")] = tuple(cells[1:])
    return rows


def test_metrics_page_says_what_the_code_says():
    shown = {"both": "daemon, server"}
    expected = {
        m.name: (
            m.kind,
            m.unit,
            ", ".join(f"`{label}`" for label in m.labels) or "–",
            shown.get(m.source, m.source),
            m.meaning,
        )
        for m in MEASURES
    }
    assert documented() == expected


def test_names_follow_the_conventions_of_prometheus():
    for measure in MEASURES:
        assert re.fullmatch(r"contlearn_[a-z0-9_]+", measure.name)
        assert measure.name.endswith("_total") == (measure.kind == "counter"), measure.name
        for unit in ("seconds", "ratio", "bytes"):
            if measure.unit == unit:
                assert measure.name.endswith(f"_{unit}") or unit == "ratio", measure.name
        assert not {"record", "text", "user", "experience", "le", "quantile"} & set(measure.labels)
        assert measure.meaning.endswith(".")
    assert len({m.name for m in MEASURES}) == len(MEASURES)


@pytest.mark.parametrize("path", [*RULES, *DASHBOARDS], ids=lambda path: path.name)
def test_rules_and_dashboards_name_only_metrics_that_exist(path):
    text = path.read_text(encoding="utf-8")
    recorded = set(re.findall(r"record: (\S+)", text))
    used = set(NAME.findall(text)) - OTHER_NAMES
    assert used, path
    assert used <= SERIES, sorted(used - SERIES)
    everywhere = {
        r
        for rules in RULES
        for r in re.findall(r"record: (\S+)", rules.read_text(encoding="utf-8"))
    }
    assert set(re.findall(r"\b[a-z]+:contlearn_\w+:\w+", text)) <= everywhere | recorded


def test_every_metric_is_on_a_dashboard_or_in_a_rule_or_about_the_process():
    text = "".join(path.read_text(encoding="utf-8") for path in [*RULES, *DASHBOARDS])
    about_the_process = {
        "contlearn_build_info",
        "contlearn_champion_info",
        "contlearn_run_last_completion_timestamp_seconds",
    }
    unused = {m.name for m in MEASURES if not any(s in text for s in m.series)} - about_the_process
    assert unused == set()


def test_labels_in_queries_are_labels_of_the_metric():
    labels = {series: {*m.labels, "le", "job", "instance"} for m in MEASURES for series in m.series}
    for path in [*RULES, *DASHBOARDS]:
        text = path.read_text(encoding="utf-8")
        text = text if path.suffix == ".yml" else text.replace('\\"', '"')
        for name, inside in re.findall(r"(?<![:\w])(contlearn_\w+)\{([^{}]*)\}", text):
            for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', inside):
                assert label in labels[name], f"{path.name}: {name}{{{label}}}"


def test_dashboards_are_what_their_program_writes():
    path = DEPLOY / "grafana" / "build_dashboards.py"
    spec = importlib.util.spec_from_file_location("build_dashboards", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS}
    assert written == module.build()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_dashboards_can_be_provisioned_from_files(path):
    value = json.loads(path.read_bytes())
    assert value["id"] is None
    assert "__inputs" not in value
    assert value["uid"].startswith("contlearn-")
    assert value["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in value["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in value["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]


def test_every_alert_has_its_runbook_and_every_runbook_its_alert():
    text = (DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    alerts, pages = re.findall(r"alert: (\w+)", text), re.findall(r"runbook: (\S+)", text)
    assert len(alerts) == len(pages) == len(set(pages))
    for alert, page in zip(alerts, pages, strict=True):
        assert f"`{alert}`" in (ROOT / page).read_text(encoding="utf-8")
    there = {f"docs/runbooks/{p.name}" for p in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert there - {"docs/runbooks/README.md"} == set(pages)


def test_every_alert_has_a_scenario_in_which_it_fires():
    text = (DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    tests = "".join(
        p.read_text(encoding="utf-8") for p in (DEPLOY / "prometheus" / "tests").glob("*.yml")
    )
    for alert in re.findall(r"alert: (\w+)", text):
        assert re.search(rf"name: {alert} fires", tests), alert


def promtool(*arguments):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules():
    promtool("check", "rules", *RULES)
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    promtool("check", "config", "--syntax-only", DEPLOY / "docker" / "prometheus.yml")


@pytest.mark.slow
def test_alerts_fire_on_their_scenario_and_stay_silent_when_all_is_well():
    promtool("test", "rules", *sorted((DEPLOY / "prometheus" / "tests").glob("*.yml")))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_dashboards_hold_to_the_types_of_grafana_itself(path):
    """Read with the types Grafana generates from its own schema: nothing may be lost on the way."""
    sdk = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="needs grafana-foundation-sdk"
    )
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    written = json.loads(path.read_bytes())
    read = json.loads(JSONEncoder().encode(sdk.Dashboard.from_json(written)))
    # What the Prometheus data source adds to annotations and variables is not in those types.
    known = re.compile(
        r"/id|/templating/list\[1\]/definition|/annotations/list\[0\]/(step|titleFormat|textFormat)"
        r"|/panels\[\d+\]/options/tooltip/mode"
    )
    assert [place for place in lost(written, read) if not known.fullmatch(place)] == []


def lost(written, read, place=""):
    """Say which parts are not there any more, or differ."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            if key in read:
                yield from lost(value, read[key], f"{place}/{key}")
            else:
                yield f"{place}/{key}"
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, (one, other) in enumerate(zip(written, read, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif written != read:
        yield place
