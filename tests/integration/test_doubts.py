"""A batch with a whole class under another's name: who takes it in is told, before a promotion."""

from __future__ import annotations

import pytest

from tests.texts import classified, write_rows

pytestmark = pytest.mark.slow


def test_class_under_another_name_is_named_at_ingest_update_status_and_in_the_report(
    program, tmp_path
):
    labels = ["billing", "shipping", "garden"]
    first = write_rows(tmp_path / "first.jsonl", classified(labels, 40))
    taken = program.json("ingest", first)
    assert taken["doubted"]["not_looked_at"] == "no model was promoted yet"
    assert program.json("update")["outcome"] == "promoted"

    good = write_rows(tmp_path / "good.jsonl", classified(labels, 10, seed=2))
    assert program.json("ingest", good)["doubted"]["looked_at"] == 30
    hidden = [{**row, "label": "billing"} for row in classified(["garden"], 20, seed=3)]
    rows = [*hidden, *classified(["billing", "shipping"], 5, seed=4)]
    found = program.json("ingest", write_rows(tmp_path / "bad.jsonl", rows))["doubted"]
    assert (found["looked_at"], found["not_looked_at"]) == (30, None)
    assert found["number"] >= 15
    pair = found["pairs"][0]
    assert (pair["given"], pair["suggested"], pair["of"]) == ("billing", "garden", 25)
    assert program.json("status")["doubted"]["ingest"]["number"] == found["number"]
    assert "labelled 'billing' look like 'garden'" in program.run("status")

    update = program.json("update", "--no-promote", code=None)
    doubted = update["doubted"]
    assert doubted["looked_at"] == 60
    assert doubted["share"] == pytest.approx(doubted["number"] / 60, abs=1e-4)
    assert doubted["pairs"][0] == {**pair, "number": doubted["pairs"][0]["number"], "of": 35}
    page = (program.root / f"reports/{update['version']}.html").read_text()
    assert f"{doubted['number']} of 60 labels of this update are in doubt" in page
    assert program.json("status")["doubted"]["update"]["number"] == doubted["number"]

    # It can be left, and that is said too.
    config = program.root / "contlearn.toml"
    config.write_text(config.read_text() + "\n[monitoring]\ndoubt_records = 0\n")
    more = write_rows(tmp_path / "more.jsonl", classified(labels, 2, seed=5))
    said = program.run("ingest", more)
    assert "were not looked at for doubts: monitoring.doubt_records is 0." in said
