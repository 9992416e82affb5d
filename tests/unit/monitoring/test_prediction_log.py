from __future__ import annotations

import json
import os
import time

import numpy as np
import orjson

from contlearn.monitoring.prediction_log import (
    LoggedPrediction,
    PredictionLog,
    predicted_labels,
    read_predictions,
    sweep_segments,
)


class Tally:
    def __init__(self):
        self.value = 0

    def inc(self, amount=1):
        self.value += amount


def prediction(number=0, **changes):
    values = {
        "time": 1_900_000_000.0 + number,
        "request_id": f"r{number}",
        "index": 0,
        "version": 3,
        "labels": ("billing",),
        "confidence": 0.75,
        "characters": 12,
        "tokens": 5,
        "unknown_ratio": 0.2,
        "projection": (0.123456789, 1.0),
    }
    return LoggedPrediction(**{**values, **changes})


def test_a_line_holds_the_fields_and_no_text_unless_given(tmp_path, clock):
    log = PredictionLog(tmp_path, clock)
    log.add(prediction())
    log.add(
        prediction(
            1, text="words", keep_text=True, labels=(), confidence=None, tokens=None,
            projection=None, logits=np.array([0.0, 0.0], dtype=np.float32),
        )
    )  # fmt: skip
    log.add(prediction(2, text="wo ist das paket"))
    log.flush()
    third, second, first = read_predictions(tmp_path)
    assert "text" not in third
    assert third["language"] == "german"
    assert second["energy"] == 0.6931
    assert first == {
        "time": "2030-03-17T17:46:40.000+00:00",
        "request_id": "r0",
        "index": 0,
        "version": 3,
        "labels": ["billing"],
        "characters": 12,
        "confidence": 0.75,
        "tokens": 5,
        "unknown_ratio": 0.2,
        "projection": [0.12346, 1.0],
    }
    assert second["text"] == "words"
    assert not {"confidence", "tokens", "projection"} & second.keys()


def test_adding_never_waits_and_drops_are_counted(tmp_path, clock):
    written, dropped = Tally(), Tally()
    log = PredictionLog(tmp_path, clock, queue_records=10, written=written, dropped=dropped)
    for number in range(1000):
        log.add(prediction(number))
    assert not list(tmp_path.iterdir())  # writing is the writer's part
    log.flush()
    assert (written.value, dropped.value) == (10, 990)


def test_segments_are_bounded_in_size_and_the_oldest_go_first(tmp_path, clock):
    log = PredictionLog(
        tmp_path, clock, max_bytes=20_000, segment_bytes=4_000, max_age_seconds=1e12
    )
    for number in range(500):
        log.add(prediction(number))
        if number % 10 == 9:
            log.flush()
            clock.sleep(1)
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 12_000 < total <= 20_000
    newest = list(read_predictions(tmp_path, newest=10))
    assert [item["request_id"] for item in newest] == [f"r{n}" for n in range(499, 489, -1)]


def test_old_segments_go_by_age(tmp_path, clock):
    old = tmp_path / "20290101T000000000000-1.jsonl"
    old.write_text("{}\n")
    moment = clock.now().timestamp() - 100
    os.utime(old, (moment, moment))
    log = PredictionLog(tmp_path, clock, max_age_seconds=50)
    log.add(prediction())
    log.flush()
    assert not old.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cut_line_is_passed_over(tmp_path):
    lines = [json.dumps({"request_id": "a", "labels": ["x"]}), '{"request_id": "b", "lab']
    (tmp_path / "1.jsonl").write_text("\n".join(lines))
    assert [item["request_id"] for item in read_predictions(tmp_path)] == ["a"]


def test_a_disk_that_fails_costs_records_and_is_told_once(tmp_path, clock, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    dropped = Tally()
    log = PredictionLog(blocked, clock, dropped=dropped)
    for number in range(3):
        log.add(prediction(number))
        log.flush()
    assert dropped.value == 3
    assert len([r for r in caplog.records if r.message == "prediction log failed"]) == 1


def test_a_full_disk_leaves_whole_lines_and_no_empty_files(tmp_path, clock, file_size_limit):
    written, dropped = Tally(), Tally()
    log = PredictionLog(tmp_path, clock, written=written, dropped=dropped, max_age_seconds=1e12)
    log.add(prediction(0))
    log.flush()
    (segment,) = tmp_path.iterdir()
    size = segment.stat().st_size
    with file_size_limit(size + 20):
        log.add(prediction(1))
        log.flush()
    assert segment.stat().st_size == size
    with file_size_limit(0):
        for number in range(2, 5):
            clock.sleep(1)
            log.add(prediction(number))
            log.flush()
    assert [path.name for path in tmp_path.iterdir()] == [segment.name]
    log.add(prediction(5))
    log.flush()
    assert [item["request_id"] for item in read_predictions(tmp_path)] == ["r5", "r0"]
    assert (written.value, dropped.value) == (2, 4)


def test_the_writer_writes_by_itself_and_on_closing(tmp_path, clock):
    log = PredictionLog(tmp_path, clock, flush_seconds=0.01)
    log.start()
    log.add(prediction())
    until = time.monotonic() + 5
    while not list(read_predictions(tmp_path)) and time.monotonic() < until:
        time.sleep(0.01)
    log.add(prediction(1))
    log.close()
    log.add(prediction(2))
    assert [item["request_id"] for item in read_predictions(tmp_path)] == ["r1", "r0"]


def test_predicted_labels_count_the_newest(tmp_path, clock):
    log = PredictionLog(tmp_path, clock)
    for labels in (("old",), ("city", "artist"), (), ("city", "artist")):
        log.add(prediction(labels=labels))
    log.flush()
    assert predicted_labels(tmp_path, 3) == {"artist+city": 2, "O": 1}


def test_a_window_of_a_large_log_is_all_that_is_read_of_it(tmp_path, clock, monkeypatch):
    log = PredictionLog(tmp_path, clock)
    for number in range(15_000):
        log.add(prediction(number, projection=[0.5] * 32))
    log.flush()
    parsed, loads = Tally(), orjson.loads
    monkeypatch.setattr(orjson, "loads", lambda line: (parsed.inc(), loads(line))[1])
    assert len(list(read_predictions(tmp_path, newest=500))) == 500
    assert parsed.value == 500


def test_old_segments_go_first_and_the_newest_stays_where_it_is_spared(tmp_path):
    for place, age in enumerate((400, 30, 20, 500)):
        path = tmp_path / f"2030010{place}-1.jsonl"
        path.write_bytes(b"x" * 10)
        os.utime(path, (1000 - age, 1000 - age))
    bounds = {"max_age": 100.0, "now": 1000.0}
    assert sweep_segments(tmp_path, most=40, **bounds, spare_newest=True) == 1
    assert sweep_segments(tmp_path, most=20, **bounds, spare_newest=True) == 1
    assert sweep_segments(tmp_path, most=0, **bounds, spare_newest=True) == 1
    assert [path.name[:8] for path in tmp_path.iterdir()] == ["20300103"]
    assert sweep_segments(tmp_path, most=40, **bounds) == 1
