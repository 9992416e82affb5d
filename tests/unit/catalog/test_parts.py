"""Which records make updates fail is found by trying them in parts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.counting import count_planned
from contlearn.catalog.cycles import change_cycle, create_cycle
from contlearn.catalog.parts import free_part, next_part, settle_failed
from contlearn.catalog.records import (
    count_records,
    hold_records,
    plan_records,
    release_records,
    settle_learnt,
    settle_refused,
)
from contlearn.catalog.schema import cycle_records, files, records

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Life:
    """Cycles over records, some of which are poison: a cycle that has one fails."""

    def __init__(self, catalog: Catalog, divisions: int = 16) -> None:
        self.catalog, self.divisions = catalog, divisions
        self.poison: set[int] = set()
        self.seq = self.cycles = self.failures = 0

    def add(self, number: int, poison: tuple[int, ...] = (), held_out: int = 0) -> range:
        """Take a file in; `poison` are rows of it. Its numbers are given."""
        with self.catalog.write() as c:
            file_id = c.execute(
                files.insert().values(
                    content_hash=f"h{self.seq}", name="f", settings="", received_at="", verdict="ok"
                )
            ).inserted_primary_key[0]
            first = self.seq + 1
            for row in range(number + held_out):
                self.seq += 1
                split = "train" if row < number else "held_out"
                c.execute(
                    records.insert().values(
                        seq=self.seq, record_id=f"{self.seq:032x}", file_id=file_id, row=row,
                        split=split, state="pending", attempts=0, key="a", received_at="2030",
                    )
                )  # fmt: skip
        self.poison |= {first + row for row in poison}
        return range(first, self.seq + 1)

    def cycle(self, *, kind: str = "TrainingError", refuses: bool = False) -> str:
        """Run one cycle: what nobody suspects first, else the next part; say how it ended."""
        self.cycles += 1
        with self.catalog.write() as c:
            part = None if count_records(c).to_learn else next_part(c)
            cycle = create_cycle(
                c, trigger="manual", run_key=None, strategy="er", champion=None, experience=0,
                promote=True, now=NOW,
            )  # fmt: skip
            assert cycle is not None
            plan_records(c, cycle, part=part)
            if count_planned(c, [cycle]) == 0:
                return "nothing"
            mine = sa.select(cycle_records.c.seq).where(cycle_records.c.cycle_id == cycle)
            fails = kind != "TrainingError" or self.poison & set(c.execute(mine).scalars())
            if not fails:
                free_part(c, cycle)
                end = "refused" if refuses else "promoted"
                change_cycle(c, cycle, state=end, outcome=end)
                settle_refused(c, cycle, "worse") if refuses else settle_learnt(c, cycle)
                return end
            self.failures += 1
            numbers = {"error_kind": kind}
            change_cycle(c, cycle, state="failed", outcome="failed", numbers=numbers)
            settle_failed(
                c, cycle, failures=3, divisions=self.divisions, kind=kind, why="It burst."
            )
            return "failed"

    def to_the_end(self, most: int = 200) -> None:
        for _ in range(most):
            if self.cycle() == "nothing":
                return
        raise AssertionError("it does not end")

    def held(self) -> set[int]:
        return self._where(records.c.state == "held")

    def suspected(self) -> set[int]:
        return self._where(records.c.part.is_not(None))

    def _where(self, condition) -> set[int]:
        with self.catalog.read() as c:
            return set(c.execute(sa.select(records.c.seq).where(condition)).scalars())

    def reasons(self) -> set[str]:
        with self.catalog.read() as c:
            query = sa.select(records.c.reason).where(records.c.state == "held")
            return set(c.execute(query).scalars())


@pytest.fixture
def catalog(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as made:
        yield made


def test_one_bad_row_among_many_files_is_the_only_one_held(catalog):
    life = Life(catalog)
    batches = [life.add(20, poison=(7,) if n == 9 else ()) for n in range(32)]
    life.to_the_end()
    assert life.held() == {batches[9][7]}
    assert life.suspected() == set()
    assert "alone: It burst." in life.reasons().pop()
    # Three failures, five halvings between files, five inside one.
    assert life.failures <= 3 + 5 + 5


def test_a_file_that_is_bad_throughout_is_held_and_costs_no_search_inside(catalog):
    life = Life(catalog)
    batches = [life.add(20, poison=tuple(range(20)) if n == 4 else ()) for n in range(32)]
    life.to_the_end()
    assert life.held() == set(batches[4])
    assert life.reasons() == {next(iter(life.reasons()))}
    assert "Both halves of these records failed alone" in life.reasons().pop()
    assert life.failures <= 3 + 5 + 2


def test_two_bad_files_are_held_and_the_others_are_learnt(catalog):
    life = Life(catalog)
    batches = [life.add(8, poison=tuple(range(8)) if n in (2, 11) else ()) for n in range(16)]
    life.to_the_end()
    assert life.held() == {*batches[2], *batches[11]}


def test_what_comes_later_does_not_wait_for_the_search(catalog):
    life = Life(catalog)
    for n in range(8):
        life.add(10, poison=(0,) if n == 3 else ())
    assert [life.cycle() for _ in range(3)] == ["failed"] * 3
    later = life.add(10)
    assert life.cycle() == "promoted"
    assert life.suspected().isdisjoint(later)
    assert len(life.suspected()) == 80


def test_a_cause_outside_the_records_ends_the_search_with_all_held(catalog):
    life = Life(catalog)
    everything = [seq for n in range(64) for seq in life.add(4, poison=(0, 1, 2, 3))]
    life.to_the_end()
    assert life.held() == set(everything)
    assert life.failures == 3 + 14
    assert "Each part of these records failed alone" in life.reasons().pop()


def test_a_full_disk_divides_nothing(catalog):
    life = Life(catalog)
    life.add(10)
    assert [life.cycle(kind="StorageError") for _ in range(5)] == ["failed"] * 5
    assert life.suspected() == life.held() == set()
    # Nor does it while parts are tried.
    life.add(10, poison=(0,))
    assert [life.cycle() for _ in range(3)] == ["failed"] * 3
    before = life.suspected()
    assert life.cycle(kind="StorageError") == "failed"
    assert life.suspected() == before


def test_divisions_have_a_bound_and_none_holds_the_batch_at_once(catalog):
    life = Life(catalog, divisions=2)
    batches = [life.add(10, poison=(0,) if n == 0 else ()) for n in range(8)]
    life.to_the_end()
    assert life.held() == {*batches[0], *batches[1]}  # a quarter
    other = Life(catalog, divisions=0)
    other.seq = life.seq
    batch = other.add(10, poison=(0,))
    other.to_the_end()
    assert set(batch) < other.held()


def test_a_part_that_is_refused_takes_part_with_the_others_again(catalog):
    life = Life(catalog)
    life.add(10)
    bad = life.add(10, poison=(0, 9))
    assert [life.cycle() for _ in range(3)] == ["failed"] * 3
    assert life.cycle(refuses=True) == "refused"
    assert life.suspected() == set(bad)
    with catalog.read() as c:
        assert count_records(c).to_learn == 10
    life.to_the_end()
    assert life.held() == set(bad)


def test_held_out_rows_go_with_their_part_and_never_alone(catalog):
    life = Life(catalog)
    for n in range(6):
        life.add(4, poison=(1,) if n == 2 else (), held_out=2)
    life.to_the_end()
    assert life.poison <= life.held()
    assert len(life.held()) <= 3
    with catalog.read() as c:
        assert count_records(c).held_out_pending == 0


def test_parts_whose_training_records_were_forgotten_are_freed(catalog):
    life = Life(catalog)
    life.add(4, held_out=2)
    bad = life.add(4, poison=(0, 3))
    assert [life.cycle() for _ in range(3)] == ["failed"] * 3
    with catalog.write() as c:
        c.execute(records.update().where(records.c.seq <= 4).values(state="forgotten"))
    life.add(1)
    life.to_the_end()
    assert life.held() == set(bad)
    with catalog.read() as c:
        assert count_records(c).held_out_pending == 2  # they wait for the next update
        assert next_part(c) is None
    life.add(1)
    assert life.cycle() == "promoted"


def test_released_records_get_all_their_tries_again(catalog):
    life = Life(catalog)
    bad = life.add(6, poison=tuple(range(6)))
    life.to_the_end()
    assert life.held() == set(bad)
    with catalog.write() as c:
        assert release_records(c) == 6
    assert [life.cycle() for _ in range(2)] == ["failed", "failed"]
    assert life.suspected() == life.held() == set()


def test_suspected_records_held_by_hand_are_like_all_others_once_released(catalog):
    life = Life(catalog)
    life.add(4, poison=(0,))
    assert [life.cycle() for _ in range(3)] == ["failed"] * 3
    suspected = sorted(life.suspected())
    assert suspected
    with catalog.write() as c:
        assert hold_records(c, suspected, reason="by hand") == len(suspected)
        assert release_records(c, suspected) == len(suspected)
        assert next_part(c) is None
    assert life.suspected() == set()


def test_releasing_nothing_gives_nobody_new_tries(catalog):
    life = Life(catalog)
    (poison,) = life.add(1, poison=(0,))
    assert [life.cycle() for _ in range(2)] == ["failed"] * 2
    with catalog.write() as c:
        assert release_records(c) == release_records(c, [poison]) == 0
    assert life.cycle() == "failed"
    assert life.held() == {poison}


def test_what_would_be_held_or_released_is_counted_and_stays(catalog):
    life = Life(catalog)
    rows = life.add(3)
    with catalog.write() as c:
        assert hold_records(c, rows, reason="look", dry_run=True) == 3
        assert hold_records(c, rows[:2], reason="look") == 2
        assert hold_records(c, rows, reason="look", dry_run=True) == 1
        assert release_records(c, dry_run=True) == release_records(c, rows, dry_run=True) == 2
    assert life.held() == set(rows[:2])


def test_a_second_bad_batch_during_the_search_is_searched_too(catalog):
    life = Life(catalog)
    first = [life.add(6, poison=(2,) if n == 0 else ()) for n in range(4)]
    assert [life.cycle() for _ in range(3)] == ["failed"] * 3
    second = [life.add(6, poison=(5,) if n == 3 else ()) for n in range(4)]
    life.to_the_end()
    assert life.held() == {first[0][2], second[3][5]}
