from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contlearn.config import DataConfig
from contlearn.monitoring.feedback_log import (
    FeedbackLog,
    join_feedback,
    read_feedback,
    resolved_labels,
)

NOW = datetime(2030, 3, 17, 12, tzinfo=UTC)


def test_the_last_label_of_a_text_counts_and_joins_with_its_prediction(tmp_path):
    log = FeedbackLog(tmp_path)
    log.add([("r1", 0, "billing"), ("r1", 1, "returns")], NOW)
    log.add([("r1", 0, "shipping"), ("unknown", 0, "billing")], NOW + timedelta(days=1))
    with (tmp_path / "2030-03-18.jsonl").open("ab") as file:
        file.write(b'{"request_id": "r2", "ind')  # a kill
    labels = read_feedback(tmp_path)
    assert labels["r1", 0] == "shipping"
    lines = [
        {"time": "2", "request_id": "r1", "index": 1, "labels": ["returns"]},
        {"time": "1", "request_id": "r1", "index": 0, "labels": ["billing"]},
        {"time": "3", "request_id": "r1", "index": 1, "labels": ["several", "types"]},
        {"time": "0", "request_id": "r9", "index": 0, "labels": ["billing"]},
    ]
    joined = join_feedback(lines, labels)
    assert [(line["time"], right) for line, right in joined] == [("1", False), ("2", True)]


def test_old_days_go(tmp_path):
    log = FeedbackLog(tmp_path, max_days=3)
    for day in range(6):
        log.add([("r", 0, "x")], NOW + timedelta(days=day))
    assert [path.stem for path in sorted(tmp_path.glob("*.jsonl"))] == [
        "2030-03-20", "2030-03-21", "2030-03-22"
    ]  # fmt: skip


def test_nothing_to_add_makes_no_file(tmp_path):
    FeedbackLog(tmp_path / "feedback").add([], NOW)
    assert not (tmp_path / "feedback").exists()


def test_entities_join_by_their_key(tmp_path):
    log = FeedbackLog(tmp_path)
    log.add([("r1", 0, "key-a"), ("r1", 1, "key-b")], NOW)
    lines = [
        {"time": "1", "request_id": "r1", "index": 0, "labels": ["city", "day"], "answer": "key-a"},
        {"time": "2", "request_id": "r1", "index": 1, "labels": [], "answer": "key-a"},
    ]
    joined = join_feedback(lines, read_feedback(tmp_path))
    assert [right for _, right in joined] == [True, False]


def test_of_two_answers_under_one_id_the_first_has_the_label():
    lines = [
        {"time": "2", "request_id": "r1", "index": 0, "labels": ["billing"]},
        {"time": "1", "request_id": "r1", "index": 0, "labels": ["returns"]},
    ]
    joined = join_feedback(lines, {("r1", 0): "returns"})
    assert [(line["time"], right) for line, right in joined] == [("1", True)]


def test_labels_logged_before_an_alias_was_named_count_as_what_it_stands_for():
    labels = {("r1", 0): "Versand", ("r2", 0): "shiping", ("r3", 0): "returns"}
    closed = DataConfig(labels=("shipping", "returns"), label_aliases={"Versand": "shipping"})
    assert resolved_labels(labels, closed) == {("r1", 0): "shipping", ("r3", 0): "returns"}
    open_set = DataConfig(label_aliases={"Versand": "shipping"})
    assert resolved_labels(labels, open_set)["r2", 0] == "shiping"


def test_what_a_full_disk_has_cut_takes_no_other_label_along(tmp_path, file_size_limit):
    log = FeedbackLog(tmp_path)
    log.add([("r1", 0, "billing")], NOW)
    (path,) = tmp_path.iterdir()
    with file_size_limit(path.stat().st_size + 20), pytest.raises(OSError, match="too large"):
        log.add([("r2", 0, "billing")], NOW)
    log.add([("r3", 0, "returns")], NOW)
    assert read_feedback(tmp_path) == {("r1", 0): "billing", ("r3", 0): "returns"}
