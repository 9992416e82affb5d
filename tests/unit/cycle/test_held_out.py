"""The bounded reserve of held-out rows, on records that were really taken in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.catalog.cycles import change_cycle, create_cycle
from contlearn.catalog.records import plan_records
from contlearn.catalog.schema import records
from contlearn.cycle.held_out import fair_shares, read_held_out
from contlearn.data.store import read_records
from tests.unit.data.taking import taker


@given(st.lists(st.integers(0, 500), max_size=12), st.integers(1, 1000))
def test_shares_keep_to_the_capacity_and_are_fair(sizes, capacity):
    shares = fair_shares(sizes, capacity)
    assert sum(shares) <= capacity
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))
    assert sum(shares) >= min(capacity, sum(sizes)) - len(sizes)  # hardly anything is left over
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    if cut:
        # No set that was cut has much less than any other.
        assert max(shares) - min(cut) <= 1


@pytest.fixture
def lineage(tmp_path):
    """Three experiences of 40, 8 and 60 held-out rows."""
    with taker(tmp_path / "ws") as taking:
        cycles = []
        for number, size in enumerate((40, 8, 60)):
            rows = [{"text": f"text {number} {i}", "label": "ab"[i % 2]} for i in range(size)]
            taking.ingest(taking.write(f"{number}.jsonl", rows, tmp_path), held_out=True)
            with taking.catalog.write() as connection:
                cycle = create_cycle(
                    connection, trigger="manual", run_key=None, strategy="replay", champion=None,
                    experience=number, promote=True, now=datetime.now(UTC),
                )  # fmt: skip
                plan_records(connection, cycle)
                connection.execute(
                    records.update().where(records.c.cycle_id == cycle).values(state="learnt")
                )
                change_cycle(connection, cycle, state="promoted")
            cycles.append(cycle)
        yield taking, cycles


def _read(taking, cycles, capacity, new=None):
    return read_held_out(taking.workspace, taking.catalog, cycles, capacity=capacity, new=new)


def test_a_small_reserve_has_rows_of_every_experience(lineage):
    taking, cycles = lineage
    sets = _read(taking, cycles, 30, new=cycles[2])
    assert [len(held_out.records) for held_out in sets] == [11, 8, 11]
    assert [held_out.index for held_out in sets] == [0, 1, 2]
    assert [held_out.is_new for held_out in sets] == [False, False, True]
    assert {record.split for held_out in sets for record in held_out.records} == {"held_out"}


def test_a_reserve_that_shrinks_keeps_rows_it_had(lineage):
    """So the champion's answers are known, and what was measured before is comparable."""
    taking, cycles = lineage
    large, small = (
        [{record.record_id for record in held_out.records} for held_out in _read(taking, cycles, n)]
        for n in (60, 20)
    )
    assert all(few <= many for few, many in zip(small, large, strict=True))
    assert sum(map(len, small)) <= 20


def test_forgotten_rows_leave_the_reserve(lineage):
    taking, cycles = lineage
    (first, *_) = _read(taking, cycles, 10_000)
    assert len(first.records) == 40
    gone = first.records[0].record_id
    with taking.catalog.write() as connection:
        connection.execute(
            records.update().where(records.c.record_id == gone).values(state="forgotten")
        )
    (first, *_) = _read(taking, cycles, 10_000)
    assert gone not in {record.record_id for record in first.records}
    assert len(first.records) == 39


def test_corrected_rows_leave_the_reserve_and_what_is_judged(lineage, tmp_path):
    from contlearn.data.label_quality import out_of_sample_ids
    from tests.unit.data.taking import make_config

    taking, cycles = lineage
    (first, *_) = _read(taking, cycles, 10_000)
    wrong = first.records[:9]
    rows = [{**record.inputs, "label": "c"} for record in wrong]
    path = taking.write("corrected.jsonl", rows, tmp_path)
    taking.ingest(path, config=make_config(on_conflict="newest"), held_out=True)
    (left, *_) = _read(taking, cycles, 10_000)
    assert len(left.records) == 31
    gone = {record.record_id for record in wrong}
    assert not gone & {record.record_id for record in left.records}
    judged = out_of_sample_ids(taking.catalog, limit=10_000)
    assert not gone & set(judged)
    assert len(judged) == 40 + 8 + 60
    assert read_records(taking.workspace, taking.catalog, sorted(gone)) == []
