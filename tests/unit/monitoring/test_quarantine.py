from __future__ import annotations

import json

from contlearn.monitoring.quarantine import QuarantineTally


def write(path, *reasons):
    path.write_text("".join(json.dumps({"reason": reason}) + "\n" for reason in reasons))


def test_reasons_are_counted_over_files_and_files_that_go_are_forgotten(tmp_path):
    tally = QuarantineTally(tmp_path)
    assert tally.counts() == {}
    write(tmp_path / "a.jsonl", "not-json", "empty-text", "not-json")
    write(tmp_path / "b.jsonl", "not-json")
    (tmp_path / "c.jsonl").write_text('broken\n["list"]\n')
    assert tally.counts() == {"not-json": 3, "empty-text": 1}
    (tmp_path / "b.jsonl").unlink()
    write(tmp_path / "a.jsonl", "conflict")
    assert tally.counts() == {"conflict": 1}
