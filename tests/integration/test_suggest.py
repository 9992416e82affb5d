"""`contlearn suggest` and `bench serving` on a version that was really trained."""

from __future__ import annotations

import csv
import json

import pytest

from tests.texts import TOPICS, classified


def _guess(value):
    """The label that the model proposes, wherever a form keeps it."""
    if isinstance(value, dict):
        return value.get("predicted") or value["prediction"]["label"]
    return value


@pytest.mark.slow
def test_suggestions_and_layouts_of_a_trained_version(program, tmp_path):
    rows = classified(list(TOPICS), 100)
    program.drop("all.jsonl", rows)
    assert program.json("update")["outcome"] == "promoted"
    manifest = json.loads((program.root / "versions" / "1" / "manifest.json").read_bytes())
    rule = manifest["model"]["unknown"]
    assert rule["score"] == "energy"
    assert rule["rows"] >= 60

    source = tmp_path / "unlabelled.txt"
    strange = "purple umbrella seven"
    texts = [rows[0]["text"], "my parcel the login", strange, strange, "  ", "the=1 refund invoice"]
    source.write_text("\n".join([*texts, json.dumps({"text": "=cmd() refund"})]), encoding="utf-8")
    value = program.json("suggest", "--from", source, "--count", 3)
    found = [row["text"] for row in value["suggestions"]]
    assert value["known"] == 1  # it has a label already
    assert value["considered"] == 4
    assert len(found) == len(set(found)) == 3
    worths = [row["worth"] for row in value["suggestions"]]
    assert worths[0] == max(worths)

    for style in ("jsonl", "csv", "label-studio", "doccano", "prodigy"):
        path = tmp_path / f"out.{style}"
        program.run("suggest", "--from", source, "--format", style, "--output", path)
        text = path.read_text(encoding="utf-8")
        if style == "csv":
            written = [row["text"] for row in csv.DictReader(text.splitlines())]
            assert "'=cmd() refund" in written  # no spreadsheet takes it for a formula
            assert {row["label"] for row in csv.DictReader(text.splitlines())} == {""}
        elif style == "label-studio":
            (task, *_) = json.loads(text)
            assert task["predictions"][0]["result"][0]["value"]["choices"][0] in TOPICS
        else:
            lines = [json.loads(line) for line in text.splitlines()]
            assert len(lines) == 4
            assert {line["contlearn_suggestion"] for line in lines} == {style}
            assert all(line["text"] for line in lines)
            assert not any(line.get("label") for line in lines)
            guesses = [line.get("predicted", line.get("meta", line)) for line in lines]
            assert all(topic in TOPICS for topic in map(_guess, guesses))
    # What nobody answered teaches nothing; a formula that was answered is not suggested again.
    sheet = tmp_path / "answered.csv"
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = "billing" if "=cmd" in row["text"] else ""
    with sheet.open("w", newline="") as target:
        writer = csv.DictWriter(target, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    (file,) = program.json("ingest", sheet)["files"]
    assert (file["accepted"], file["rejected"], file["reason"]) == (1, 3, "not-answered")
    again = program.json("suggest", "--from", source, "--count", 9)
    assert "=cmd() refund" not in [row["text"] for row in again["suggestions"]]
    assert again["known"] == 2

    dry = tmp_path / "dry.jsonl"
    program.run("suggest", "--from", source, "--output", dry, "--dry-run")
    assert not dry.exists()

    # Without a file and without logged texts there is nothing to choose from.
    with program.popen("suggest") as process:
        _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "monitoring.log_text" in error

    tried = program.json("bench", "serving", "--seconds", "0.05", "--dry-run")
    kept = program.root / "state" / "serving" / "calibration.json"
    assert tried["best"] in tried["trials"]
    assert not kept.exists()
    best = program.json("bench", "serving", "--seconds", "0.05")["best"]
    assert json.loads(kept.read_bytes())["best"] == best
