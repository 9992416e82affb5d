from __future__ import annotations

import random

import numpy as np
import pytest
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.ids import IdIndex
from contlearn.catalog.schema import SCHEMA_VERSION, files, meta, records


@pytest.fixture
def catalog(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as made:
        with made.write() as connection:
            connection.execute(
                files.insert().values(
                    content_hash="x", name="f", received_at="t", verdict="ok", settings="s"
                )
            )
        yield made


def insert(catalog, ids, first):
    row = {"file_id": 1, "row": 0, "split": "train", "state": "pending", "key": "a"}
    with catalog.write() as connection:
        connection.execute(
            records.insert(),
            [
                row | {"seq": first + n, "record_id": one, "received_at": "t"}
                for n, one in enumerate(sorted(ids))
            ],
        )


def add(catalog, ids, first, *, indexed=True):
    """Commit records as an ingest does, and add their run unless a kill came between."""
    insert(catalog, ids, first)
    if indexed:
        heads = np.array([int(one[:16], 16) for one in sorted(ids)], dtype=np.uint64)
        catalog.ids.add(first, heads, sorted(ids)[-1])


def make_ids(rng, number):
    return [f"{rng.getrandbits(128):032x}" for _ in range(number)]


def everything(catalog):
    with catalog.read() as connection:
        return dict(connection.execute(sa.select(records.c.record_id, records.c.seq)).all())


def runs(catalog, tmp_path):
    return sorted(path.name for path in (tmp_path / "c.sqlite.ids").glob("*.ids"))


def test_each_id_is_found_whatever_was_killed_or_reopened(catalog, tmp_path):
    rng = random.Random(3)
    first = 1
    for round_ in range(25):
        ids = make_ids(rng, rng.randrange(1, 80))
        add(catalog, ids, first, indexed=rng.random() < 0.7)
        first += len(ids)
        index = IdIndex(tmp_path / "c.sqlite.ids") if round_ % 3 else catalog.ids
        with catalog.read() as connection:
            known = everything(catalog)
            assert index.find_ids(connection, [*known, *make_ids(rng, 5)]) == known


def test_runs_stay_few(catalog, tmp_path):
    rng = random.Random(4)
    for number in range(100):
        add(catalog, make_ids(rng, 50), 1 + 50 * number)
    assert len(runs(catalog, tmp_path)) <= 6
    with catalog.read() as connection:
        assert len(catalog.ids.find_ids(connection, everything(catalog))) == 5000


def test_records_of_one_text_are_all_found(catalog):
    head = "0123456789abcdef"
    ids = [head + "00000001" + "0000000a", head + "00000001" + "0000000b", head + "f" * 16]
    add(catalog, ids, 1)
    add(catalog, [head + "00000001" + "0000000c"], 4)
    with catalog.read() as connection:
        rows, heads = catalog.ids.find(connection, np.array([int(head, 16)], dtype=np.uint64))
    assert sorted(rows.tolist()) == [1, 2, 3, 4]
    assert set(heads.tolist()) == {int(head, 16)}


def test_what_is_no_id_is_not_found(catalog):
    add(catalog, make_ids(random.Random(5), 3), 1)
    with catalog.read() as connection:
        assert catalog.ids.find_ids(connection, ["", "x" * 32, "ab", "0" * 31]) == {}


@pytest.mark.parametrize("damage", ["cut", "emptied", "of another catalog", "overwritten"])
def test_damaged_runs_are_built_again(catalog, tmp_path, damage):
    rng = random.Random(6)
    add(catalog, make_ids(rng, 500), 1)
    (path,) = (tmp_path / "c.sqlite.ids").glob("*.ids")
    data = path.read_bytes()
    path.unlink()
    changed = {
        "cut": data[:-5],
        "emptied": b"",
        "of another catalog": data[:32] + b"0" * 32 + data[64:],
        "overwritten": data[:200] + bytes(400) + data[600:],
    }[damage]
    path.write_bytes(changed)
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as again:
        # A run is compared with its checksum when it is merged.
        add(again, make_ids(rng, 400), 501)
        with again.read() as connection:
            known = everything(again)
            assert again.ids.find_ids(connection, known) == known


def test_a_catalog_restored_from_before_forgets_later_runs(catalog, tmp_path):
    rng = random.Random(7)
    add(catalog, make_ids(rng, 50), 1)
    add(catalog, make_ids(rng, 200), 51)
    with catalog.write() as connection:
        connection.execute(records.delete().where(records.c.seq > 50))
    insert(catalog, make_ids(rng, 100), 51)
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as again, again.read() as connection:
        known = everything(again)
        assert again.ids.find_ids(connection, known) == known


def test_a_catalog_of_the_first_schema_is_brought_up_to_date(catalog, tmp_path):
    ids = make_ids(random.Random(8), 20)
    insert(catalog, ids, 1)
    with catalog.write() as connection:
        connection.exec_driver_sql("ALTER TABLE records DROP COLUMN part")
        connection.exec_driver_sql("CREATE UNIQUE INDEX records_by_id ON records (record_id)")
        connection.exec_driver_sql("DROP TABLE cycle_records")
        connection.exec_driver_sql(
            "CREATE TABLE cycle_records (cycle_id VARCHAR, record_id VARCHAR, role VARCHAR)"
        )
        connection.exec_driver_sql(
            "INSERT INTO cycle_records SELECT 'c1', record_id, 'train' FROM records"
        )
        connection.execute(meta.update().values(value="1"))
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as again, again.read() as connection:
        pairs = connection.exec_driver_sql(
            "SELECT count(*) FROM cycle_records JOIN records USING (seq, record_id)"
        )
        assert pairs.scalar() == 20
        assert connection.execute(sa.select(meta.c.value)).scalar() == "5"
        assert SCHEMA_VERSION == 5
