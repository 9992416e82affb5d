from __future__ import annotations

import pytest
from prometheus_client import Gauge

from contlearn.errors import StorageError
from contlearn.telemetry.metrics import make_registry
from contlearn.telemetry.textfile import write_textfile


def test_textfile_is_replaced_whole_and_leaves_nothing_beside(tmp_path):
    registry = make_registry()
    gauge = Gauge("contlearn_test_records", "A test.", registry=registry)
    path = tmp_path / "contlearn.prom"
    for value in (1, 2):
        gauge.set(value)
        write_textfile(path, registry)
        assert path.read_text().endswith(f"contlearn_test_records {value}.0\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["contlearn.prom"]


def test_textfile_says_what_to_do_when_it_cannot_be_written(tmp_path):
    with pytest.raises(StorageError) as caught:
        write_textfile(tmp_path / "missing" / "contlearn.prom", make_registry())
    assert caught.value.hint == "Name a file in a folder this user may write to."
