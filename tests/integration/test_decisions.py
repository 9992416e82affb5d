"""Approval by hand, the way past a refusal, dry runs, and the report that forgets."""

from __future__ import annotations

import json
import re

import pytest

from tests.texts import classified, everything, write_rows

pytestmark = pytest.mark.slow

GATE = """
worth_confidence = 0.5
approval = "manual"
rules = ["minimum-evidence", "no-regression", "no-harm", "gain", "worth", "floor", "slice-floor",
  "latency",
  "size", "unknown-tokens", "negative-flips", "label-floor", "calibration", "mcnemar",
  "label-agreement"]

[gate.rule_options]
slice-floor = {by = ["length", "script", "team"], min_value = 0.1, min_rows = 10}
latency = {max_seconds = 30.0, max_ratio = 20.0}
size = {max_ratio = SIZE}
unknown-tokens = {max_share = 0.9}
negative-flips = {max_rate = 0.9}
label-floor = {min_f1 = 0.01, min_rows = 2}
calibration = {max_error = 1.0}
label-agreement = {min_agreement = 0.5}
"""
# Labelled wrongly, so that every version answers them otherwise.
SECRETS = [
    {"text": f"invoice refund charge receipt 77{i} <b>&", "label": "shipping", "team": "north"}
    for i in range(3)
]


def _configure(program, size):
    path = program.root / "contlearn.toml"
    text = path.read_text(encoding="utf-8").partition("worth_confidence")[0]
    text = text.replace("near_duplicates = false", 'near_duplicates = false\nslices = ["team"]')
    text = text.replace('slices = ["team"]\nslices = ["team"]', 'slices = ["team"]')
    path.write_text(text + GATE.replace("SIZE", size), encoding="utf-8")


def test_a_challenger_waits_for_approval_and_a_refused_one_for_a_reason(program, tmp_path):
    _configure(program, "9.0")
    rows = [{**row, "team": "south"} for row in classified(["billing", "shipping"], 60)]
    program.drop("first.jsonl", rows)
    program.json("ingest", "--held-out", write_rows(tmp_path / "held-out.jsonl", SECRETS))

    # It waits; nothing is trained again for what it has learnt.
    first = program.json("update")
    assert (first["outcome"], first["version"]) == ("awaiting-approval", 1)
    assert all(reason["passed"] is not False for reason in first["reasons"])
    status = program.json("status")
    assert (status["champion"], status["awaiting_approval"]) == (None, 1)
    again = program.json("update")
    assert again["outcome"] == "nothing-to-do"
    assert "Version 1 has learnt what is there and waits for approval" in again["message"]
    assert program.json("status")["versions"] == 1

    # A dry run changes nothing, whatever is asked.
    more = write_rows(tmp_path / "second.jsonl", classified(["returns"], 60, seed=2))
    before = everything(program.root)
    for arguments in (
        ("update",), ("promote", 1), ("ingest", more), ("export", 1, tmp_path / "out"),
        ("data", "hold", "--label", "billing"), ("data", "release"),
        ("data", "forget", "--label", "billing"), ("alias", "set", "blue", 1),
        ("data", "quarantine", "--retry"), ("data", "quarantine", "--discard"), ("notify", "send"),
    ):  # fmt: skip
        program.json(*arguments, "--dry-run")
        assert everything(program.root) == before, arguments
    assert not (tmp_path / "out").exists()

    assert program.json("promote", 1, "--reason", "looks right")["champion"] == 1
    (promoted,) = [e for e in program.json("history")["events"] if e["event"] == "promote"]
    assert promoted["reason"] == "looks right"
    assert program.json("status")["awaiting_approval"] is None

    # A limit that nothing can keep refuses the next one; all other rules judge all the same.
    _configure(program, "1e-6")
    program.drop("second.jsonl", classified(["returns"], 60, seed=2))
    second = program.json("update", code=3)
    refused = [reason["rule"] for reason in second["reasons"] if reason["passed"] is False]
    assert "size" in refused
    judged = {reason["rule"] for reason in second["reasons"] if reason["passed"] is not None}
    assert judged >= {"latency", "gain", "no-regression", "no-harm", "mcnemar", "slice-floor"}
    assert "model.onnx" in program.json("promote", 2, code=1)["error"]
    assert "--reason" in json.dumps(program.json("promote", 2, "--force", code=2))
    assert program.json("status")["champion"]["version"] == 1
    forced = program.json("promote", 2, "--force", "--reason", "the disk is large")
    assert forced["champion"] == 2
    assert program.json("history")["events"][0]["force"] is True

    # The page shows what went wrong until it is forgotten; the version's own never did.
    page = program.root / "reports" / "2.html"
    secret = "invoice refund charge receipt 771 &lt;b&gt;&amp;"
    text = page.read_text(encoding="utf-8")
    assert "<title>tickets, version 2</title>" in text
    assert secret in text
    assert re.search(r'replay buffer</td><td class="words">\d+ \(at most 2,000\)</td>', text)
    (shown,) = re.findall(rf'data-record="(\w+)"><p class="text" dir="auto">{secret}', text)
    assert "receipt 771" not in (program.root / "versions/2/report.html").read_text()
    program.json("data", "forget", shown)
    for number in (1, 2):
        assert secret not in (program.root / f"reports/{number}.html").read_text(encoding="utf-8")
    assert "receipt 772" in page.read_text(encoding="utf-8")
    assert program.json("verify")["ok"] is True
