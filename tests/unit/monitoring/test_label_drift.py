from __future__ import annotations

import subprocess
import sys

import pytest

from contlearn.catalog import Catalog
from contlearn.catalog.schema import files, records
from contlearn.monitoring.label_drift import LabelDriftWatch, learnt_labels, newest_labels


def row(table, number, **values):
    """A row with something in every column that must have a value."""
    filled = {
        column.name: number if column.type.python_type is int else f"{number:08d}"
        for column in table.columns
        if not column.nullable and column.default is None and column.autoincrement is not True
    }
    return {**filled, **values}


@pytest.fixture
def catalog(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/catalog.sqlite") as made:
        with made.write() as connection:
            connection.execute(files.insert().values(row(files, 1, verdict="ok")))
        yield made


def add(catalog, counts, state):
    with catalog.write() as connection:
        start = len(connection.execute(records.select()).all())
        labels = [label for label, number in counts.items() for _ in range(number)]
        for position, label in enumerate(labels, start=start):
            values = row(records, position, file_id=1, split="train", state=state, key=label)
            connection.execute(records.insert().values(values))


def test_counts_come_from_learnt_and_from_newest_records(catalog):
    add(catalog, {"a": 60, "b": 40}, "learnt")
    add(catalog, {"b": 5, "c": 15}, "pending")
    add(catalog, {"d": 3}, "forgotten")
    with catalog.read() as connection:
        assert learnt_labels(connection) == {"a": 60, "b": 40}
        counts, newest = newest_labels(connection, 20)
    assert counts == {"b": 5, "c": 15}
    assert newest == 119


def test_nothing_is_said_without_a_champion_or_with_too_few_records(catalog):
    watch = LabelDriftWatch(window=50, min_records=30)
    with catalog.read() as connection:
        assert watch.arrived(connection, None) is None
        assert watch.arrived(connection, 1) is None
    add(catalog, {"a": 20}, "learnt")
    with catalog.read() as connection:
        assert watch.arrived(connection, 2) is None


def test_a_shift_of_labels_is_seen_and_goes_with_the_next_champion(catalog):
    add(catalog, {"a": 150, "b": 150}, "learnt")
    watch = LabelDriftWatch(window=100, min_records=50, limit=0.2)
    with catalog.read() as connection:
        assert watch.arrived(connection, 1).reference_records == 300
    add(catalog, {"c": 100}, "pending")
    with catalog.read() as connection:
        drift = watch.arrived(connection, 1)
        assert drift.detected
        assert drift.moved[0][0] == "c"
        assert watch.arrived(connection, 1) is drift  # nothing arrived: nothing is computed again
        assert watch.predicted(connection, 1, {"a": 50, "b": 50}).detected is False
        assert watch.predicted(connection, 1, {"c": 60}).detected
    with catalog.write() as connection:
        connection.execute(records.update().values(state="learnt"))
    with catalog.read() as connection:
        assert watch.arrived(connection, 2).reference_records == 400


def test_many_rare_keys_are_counted_together(catalog):
    add(catalog, {f"key-{number:03d}": 1 for number in range(300)}, "learnt")
    watch = LabelDriftWatch(window=300, min_records=50)
    with catalog.read() as connection:
        assert watch.arrived(connection, 1).reference_records == 300


def test_label_drift_and_the_log_load_neither_numpy_nor_torch():
    code = (
        "import sys; import contlearn.monitoring.label_drift, contlearn.monitoring.prediction_log;"
        "print([m for m in ('numpy', 'torch', 'scipy', 'pyarrow', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
