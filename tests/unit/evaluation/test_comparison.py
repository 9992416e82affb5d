from __future__ import annotations

import pytest

from contlearn.errors import StorageError
from contlearn.evaluation.comparison import compare_versions
from contlearn.evaluation.scoring import evaluate_cycle
from tests.unit.evaluation.made import TASK, Scripted, held_out


def _version(folder, sets, table):
    folder.mkdir()
    evaluate_cycle(
        task=TASK, sets=sets, challenger=Scripted(table), champion=None, champion_version=None,
        champion_report=None, memory=folder, output=folder, progress=lambda *args: None,
    )  # fmt: skip
    return folder


def test_comparison_names_rows_that_changed_sides_and_labels_that_came(tmp_path):
    old, new = held_out(["a", "b", "c", "a"]), held_out(["d"], index=1, start=10)
    right = {r.inputs["text"]: r.target for r in (*old.records, *new.records)}
    first = _version(tmp_path / "1", [old], {**right, "text 3": "b"})
    second = _version(tmp_path / "2", [old, new], {**right, "text 0": "c"})
    value = compare_versions(first, second)
    assert value["flips"]["rows"] == 4
    assert value["flips"]["lost_rows"] == [
        {"record_id": "0000", "target": "a", "before": "a", "after": "c"}
    ]
    assert [flip["record_id"] for flip in value["flips"]["won_rows"]] == ["0003"]
    assert value["labels_added"] == ["d"]
    assert value["metrics"]["accuracy"] == {"before": 0.75, "after": 0.8}
    assert value["per_label"]["d"] == {"before": None, "after": 1.0}


def test_comparison_needs_both_reports(tmp_path):
    with pytest.raises(StorageError, match=r"report\.json is missing"):
        compare_versions(tmp_path, tmp_path)
