"""What `contlearn diff` prints, whole."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from contlearn.catalog.schema import records
from contlearn.context import Context
from contlearn.data.store import read_records
from contlearn.operations.ingest import ingest_files
from contlearn.papers.scores import pack_targets
from contlearn.workspace import write_json_atomic
from tests.unit.registry.staged import facts, stage

TARGETS = {"calm sea": "no", "storm came": "yes", "rain fell": "yes", "dry day": "no"}
WHAT_IT_LEARNT = (
    "Version 2 comes after version 1: 1 experience (0 records) of both, and 1 experience "
    "(0 records) more."
)
FLIPS = (
    "Of 4 held-out rows that both were judged on, 1 are right now, 1 are wrong now, 0 are wrong in "
    "another way."
)
ANSWERS = (("no", "no", "yes", "yes"), ("no", "yes", "no", "yes"))


def papers(folder, ids, answers):
    """Write what both versions were judged on: one held-out set of four rows."""
    one = {"experience": "c1", "index": 0, "is_new": True, "rows": 4, "metrics": {"accuracy": 0.5}}
    write_json_atomic(folder / "report.json", {"sets": [one]})
    scores = {
        **one,
        "record_ids": ids,
        "targets": pack_targets(list(TARGETS.values())),
        "challenger": {**pack_targets(list(answers)), "confidences": [0.9] * 4},
        "champion": None,
    }
    write_json_atomic(
        folder / "scores.json", {"format_version": 1, "labels": ["no", "yes"], "sets": [scores]}
    )


@pytest.fixture
def two(workspace):
    rows = [json.dumps({"text": text, "label": label}) for text, label in TARGETS.items()]
    (workspace.root / "rows.jsonl").write_text("\n".join(rows) + "\n")
    with Context.open(workspace.root) as context:
        ingest_files(context, [workspace.root / "rows.jsonl"])
        with context.catalog.read() as connection:
            query = sa.select(records.c.record_id).order_by(records.c.seq)
            known = list(connection.execute(query).scalars())
        texts = {
            r.record_id: r.inputs["text"]
            for r in read_records(context.workspace, context.catalog, known)
        }
        ids = sorted(known, key=lambda i: list(TARGETS).index(texts[i]))
        for number, answers in enumerate(ANSWERS, 1):
            folder = stage(workspace.root, f"c{number}")
            papers(folder, ids, answers)
            measures = {"accuracy": 0.25 * (number + 1), "forgetting": (None, 0.125)[number - 1]}
            value = facts(metrics=measures, export={"size_bytes": 10})
            config = {"model": {"name": "test"}, "training": {"epochs": number}}
            value["lineage"] = {
                "experiences": ["c1", "c2"][:number], "strategy": "replay", "config": config,
            }  # fmt: skip
            parent = number - 1 or None
            context.registry.register(folder, cycle_id=f"c{number}", parent=parent, facts=value)
    return workspace


def test_diff(run, two):
    ran = run("--workspace", two.root, "diff", "1", "2")
    assert [line.rstrip() for line in ran.out.splitlines()] == [
        "From version 1 to version 2",
        WHAT_IT_LEARNT,
        "            version 1  version 2  difference",
        "accuracy        0.500      0.750      +0.250",
        "forgetting          –      0.125           –",
        "changed          version 1  version 2",
        "training.epochs  1          2",
        FLIPS,
        "flip    text        right  version 1  version 2",
        "fixed   storm came  yes    no         yes",
        "broken  rain fell   yes    yes        no",
    ]
    assert (ran.code, ran.err) == (0, "")


def test_diff_of_one_version_with_itself_is_refused(run, two):
    ran = run("--workspace", two.root, "diff", "1", "1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "Error: Both are version 1.\n"
        "  where: diff\n"
        "  to do: Name two versions; `contlearn history` shows which there are.\n"
    )


def test_diff_without_a_report_leaves_its_sets_out(run, two):
    (two.root / "versions" / "1" / "report.json").unlink()
    ran = run("--workspace", two.root, "diff", "1", "2", "--json")
    value = json.loads(ran.out)
    assert (ran.code, value["sets"], value["flips"]["rows"]) == (0, [], 4)


def test_diff_without_answers_has_no_row_in_common(run, two):
    (two.root / "versions" / "1" / "scores.json").unlink()
    ran = run("--workspace", two.root, "diff", "1", "2", "--json")
    value = json.loads(ran.out)
    assert (ran.code, len(value["sets"]), value["flips"]["rows"]) == (0, 1, 0)


@pytest.mark.parametrize("change", ["targets", "record_ids", "challenger"])
def test_diff_tells_damaged_answers_with_their_place(run, two, change):
    path = two.root / "versions" / "1" / "scores.json"
    value = json.loads(path.read_bytes())
    del value["sets"][0][change]
    path.chmod(0o644)
    path.write_text(json.dumps(value))
    ran = run("--workspace", two.root, "diff", "1", "2")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"Error: scores.json is damaged: KeyError('{change}').\n")
    assert str(path) in ran.err
