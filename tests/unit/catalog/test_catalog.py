import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.cycles import (
    change_cycle,
    create_cycle,
    get_cycle,
    next_look,
    unfinished_cycle,
)
from contlearn.catalog.leases import hold_lease, holder_of
from contlearn.catalog.records import (
    count_experience,
    count_looks,
    count_records,
    experience_records,
    experience_sample,
    kept_ids,
    plan_records,
    release_records,
    settle_kept,
    settle_learnt,
    settle_refused,
    take_back,
)
from contlearn.catalog.schema import files, meta, records
from contlearn.errors import ConfigError, StorageError, WorkspaceLocked
from contlearn.processes.facts import life_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as made:
        yield made


def add(catalog, number, *, split="train", state="pending", first=0):
    with catalog.write() as c:
        c.execute(
            files.insert().values(
                content_hash=f"{number}-{split}-{state}-{first}",
                name="f",
                received_at="t",
                verdict="ok",
                settings="s",
            )
        )
        c.execute(
            records.insert(),
            [
                {
                    "record_id": f"{split[0]}{state[0]}{i:03}",
                    "text_key": f"{i}",
                    "split_key": f"{i}",
                    "file_id": 1,
                    "segment": "s",
                    "row": i,
                    "split": split,
                    "state": state,
                    "key": "a",
                    "received_at": NOW.isoformat(),
                }
                for i in range(first, first + number)
            ],
        )


def plan(catalog, **values):
    with catalog.write() as c:
        cycle = create_cycle(
            c,
            trigger="manual",
            run_key=values.get("run_key"),
            strategy="replay",
            champion=None,
            experience=0,
            promote=True,
            now=NOW,
        )
        if cycle is not None:
            plan_records(c, cycle)
        return cycle


def counts(catalog):
    with catalog.read() as c:
        return count_records(c)


def test_planned_cycle_has_every_open_record(catalog):
    add(catalog, 5)
    add(catalog, 2, split="held_out")
    add(catalog, 3, state="held")
    cycle = plan(catalog)
    with catalog.read() as c:
        assert len(experience_records(c, cycle, "train")) == 5
        assert len(experience_records(c, cycle, "held_out")) == 2


def test_refused_records_are_tried_once_more_and_then_held(catalog):
    add(catalog, 4)
    for held in (0, 4):
        cycle = plan(catalog)
        with catalog.write() as c:
            assert settle_refused(c, cycle, "worse") == held
            change_cycle(c, cycle, state="refused")
    now = counts(catalog)
    assert (now.pending, now.held, now.never_tried) == (0, 4, 0)
    with catalog.write() as c:
        assert release_records(c) == 4
    assert counts(catalog).never_tried == 4


def test_records_that_await_approval_are_open_but_no_reason_to_train_again(catalog):
    add(catalog, 4)
    cycle = plan(catalog)
    with catalog.write() as c:
        change_cycle(c, cycle, state="awaiting-approval", outcome="awaiting-approval")
    now = counts(catalog)
    assert (now.pending, now.awaiting, now.to_learn, now.never_tried) == (4, 4, 0, 0)
    assert now.oldest_pending is None
    with catalog.write() as c:
        c.execute(records.update().where(records.c.row == 0).values(cycle_id=None))
    now = counts(catalog)
    assert (now.pending, now.awaiting, now.to_learn, now.never_tried) == (4, 3, 1, 1)
    cycle = plan(catalog)
    with catalog.read() as c:
        # The next challenger learns what the waiting one has, too.
        assert len(experience_records(c, cycle, "train")) == 4


def test_a_sample_of_an_experience_is_part_of_a_larger_one(catalog):
    add(catalog, 30, split="held_out")
    cycle = plan(catalog)
    with catalog.read() as c:
        small = experience_sample(c, cycle, "held_out", 5)
        large = experience_sample(c, cycle, "held_out", 12)
        assert len(small) == 5
        assert set(small) < set(large)
        assert set(large) < set(experience_records(c, cycle, "held_out"))
        assert experience_sample(c, cycle, "train", 5) == []
        assert count_experience(c, cycle, "held_out", at_most=1000) == 30
        assert count_experience(c, cycle, "held_out", at_most=7) == 7


def test_refused_records_do_not_count_as_never_tried(catalog):
    add(catalog, 4)
    cycle = plan(catalog)
    with catalog.write() as c:
        settle_refused(c, cycle, "worse")
    assert (counts(catalog).pending, counts(catalog).never_tried) == (4, 0)


def keep(catalog):
    """Run a cycle that is not worth the change."""
    cycle = plan(catalog)
    with catalog.write() as c:
        looks = count_looks(c)  # planned already; nothing of it depends on the newest cycle
        kept = settle_kept(c, cycle, "too little")
        change_cycle(c, cycle, state="kept", outcome="kept", numbers={"looks": looks + 1})
    return cycle, kept


def attempts(catalog):
    with catalog.read() as c:
        return set(c.execute(sa.select(records.c.state, records.c.attempts)).all())


def test_kept_records_are_open_no_reason_to_learn_and_no_try_is_counted(catalog):
    add(catalog, 4)
    add(catalog, 2, split="held_out")
    add(catalog, 1, state="held")
    assert keep(catalog)[1] == 4
    now = counts(catalog)
    assert (now.pending, now.kept, now.to_learn, now.fresh) == (4, 4, 4, 0)
    assert (now.never_tried, now.oldest_pending, now.held_out_pending) == (0, None, 2)
    assert attempts(catalog) == {("kept", 0), ("held", 0)}
    add(catalog, 3, first=10)
    now = counts(catalog)
    assert (now.pending, now.kept, now.fresh, now.never_tried) == (7, 4, 3, 3)
    cycle = plan(catalog)
    with catalog.write() as c:
        settle_learnt(c, cycle)
    now = counts(catalog)
    assert (now.pending, now.kept, now.learnt, now.held_out) == (0, 0, 7, 2)


def test_refused_record_that_is_kept_has_one_try_left(catalog):
    add(catalog, 2)
    cycle = plan(catalog)
    with catalog.write() as c:
        settle_refused(c, cycle, "worse")
    keep(catalog)
    assert attempts(catalog) == {("kept", 1)}
    cycle = plan(catalog)
    with catalog.write() as c:
        assert settle_refused(c, cycle, "worse") == 2


def test_refusal_of_what_came_with_kept_records_is_no_try_of_theirs(catalog):
    add(catalog, 2)
    add(catalog, 1, split="held_out")
    keep(catalog)
    add(catalog, 3, first=10)
    cycle = plan(catalog)
    with catalog.read() as c:
        assert kept_ids(c, cycle) == {"tp000", "tp001", "hp000"}
    with catalog.write() as c:
        assert settle_refused(c, cycle, "worse") == 0
    assert attempts(catalog) == {("kept", 0), ("refused", 1)}
    cycle = plan(catalog)
    with catalog.write() as c:
        assert settle_refused(c, cycle, "worse") == 3
    assert attempts(catalog) == {("kept", 0), ("held", 2)}


def test_looks_at_kept_records_are_counted_until_they_are_learnt(catalog):
    def looks():
        with catalog.read() as c:
            return count_looks(c)

    add(catalog, 2)
    assert looks() == 0
    for number in (1, 2):
        keep(catalog)
        assert looks() == number
    add(catalog, 2, first=10)
    keep(catalog)  # with others: those of before were looked at once more
    assert looks() == 3
    cycle = plan(catalog)
    with catalog.write() as c:
        change_cycle(c, cycle, state="failed", outcome="failed", numbers={"error_kind": "x"})
    assert looks() == 3  # a failure is no look
    with catalog.write() as c:
        settle_learnt(c, cycle)
    assert looks() == 0
    add(catalog, 2, first=20)
    assert looks() == 0
    keep(catalog)
    assert looks() == 1


def test_catalog_of_before_opens_and_an_earlier_contlearn_refuses_it_from_then_on(
    catalog, tmp_path
):
    add(catalog, 2)
    version = meta.c.key == "schema_version"
    with catalog.write() as c:
        c.execute(meta.update().where(version).values(value="4"))
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as again:
        assert counts(again).fresh == 2
        with again.read() as c:
            assert c.execute(sa.select(meta.c.value).where(version)).scalar() == "5"


@pytest.mark.parametrize(("hold", "state"), [(True, "held"), (False, "pending")])
def test_what_was_learnt_can_be_taken_back(catalog, hold, state):
    add(catalog, 3)
    cycle = plan(catalog)
    with catalog.write() as c:
        settle_learnt(c, cycle)
    assert counts(catalog).learnt == 3
    with catalog.write() as c:
        assert take_back(c, [cycle], hold=hold, reason="bad") == 3
    now = counts(catalog)
    assert getattr(now, state) == 3
    assert now.learnt == 0


def test_one_cause_starts_one_cycle(catalog):
    add(catalog, 1)
    assert plan(catalog, run_key="cron-1") is not None
    assert plan(catalog, run_key="cron-1") is None


def test_unfinished_cycle_is_found_until_it_ends(catalog):
    add(catalog, 1)
    cycle = plan(catalog)
    with catalog.read() as c:
        assert unfinished_cycle(c).cycle_id == cycle
    with catalog.write() as c:
        change_cycle(c, cycle, state="failed", error="x")
    with catalog.read() as c:
        assert unfinished_cycle(c) is None
        assert get_cycle(c, cycle).error == "x"


def test_transaction_that_fails_leaves_nothing(catalog):
    def half():
        with catalog.write() as c:
            c.execute(meta.insert().values(key="a", value="b"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    with catalog.read() as c:
        assert c.execute(sa.select(meta).where(meta.c.key == "a")).first() is None


def test_catalog_of_a_newer_contlearn_is_refused(catalog, tmp_path):
    with catalog.write() as c:
        c.execute(meta.update().where(meta.c.key == "schema_version").values(value="99"))
    with pytest.raises(StorageError, match="schema version 99"):
        Catalog(f"sqlite:///{tmp_path}/c.sqlite")


def test_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "c.sqlite").write_text("this is not a database, it only looks like a file")
    with pytest.raises(StorageError, match="cannot be opened"):
        Catalog(f"sqlite:///{tmp_path}/c.sqlite")


def test_lease_is_held_by_one(catalog):
    with hold_lease(catalog, "update", purpose="updating") as first:
        with (
            pytest.raises(WorkspaceLocked, match="is updating"),
            hold_lease(catalog, "update", purpose="updating"),
        ):
            pass
        assert holder_of(catalog, "update").purpose == "updating"
    assert holder_of(catalog, "update") is None
    with hold_lease(catalog, "update", purpose="updating") as second:
        assert second > first


def test_lease_of_a_killed_process_is_taken_over_at_once(catalog, tmp_path):
    code = (
        "import sys; from contlearn.catalog import Catalog; from contlearn.catalog.leases import hold_lease\n"
        f"with hold_lease(Catalog('sqlite:///{tmp_path}/c.sqlite'), 'update', purpose='x', seconds=3600):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"in\n"
    with pytest.raises(WorkspaceLocked), hold_lease(catalog, "update", purpose="updating"):
        pass
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    with hold_lease(catalog, "update", purpose="updating"):
        pass


def test_owner_on_another_machine_may_be_alive():
    assert life_of("elsewhere:boot:ns:1:2") == "unknown"
    # One of that name may be another machine, and its boot is not ours.
    assert life_of(f"{os.uname().nodename}:boot:ns:1:2") == "unknown"


def test_empty_file_may_be_opened_by_many_at_once(tmp_path):
    code = (
        "import sys; from contlearn.catalog import Catalog\n"
        "print('in', flush=True)\n"
        "for path in sys.stdin: Catalog('sqlite:///' + path.strip()).close(); print(1, flush=True)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(6)]
    try:
        assert [other.stdout.readline() for other in others] == ["in\n"] * 6
        for number in range(20):
            for other in others:
                other.stdin.write(f"{tmp_path}/{number}.sqlite\n")
                other.stdin.flush()
            assert [other.stdout.readline() for other in others] == ["1\n"] * 6
    finally:
        for other in others:
            other.kill()
            other.communicate()


def test_indexes_of_groups_and_cycles_leave_out_rows_without_one(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as made, made.read() as connection:
        found = connection.exec_driver_sql("select name, sql from sqlite_master").all()
    written = {name: sql for name, sql in found if name in ("records_by_group", "records_by_cycle")}
    assert written["records_by_group"].endswith("WHERE group_key IS NOT NULL")
    assert written["records_by_cycle"].endswith("WHERE cycle_id IS NOT NULL")


def test_looks_at_the_best_version_are_counted_until_somebody_resets_them(catalog):
    """A look that could not stop the challenger alone takes no number; a failed cycle neither."""

    def ended(numbers):
        with catalog.write() as connection:
            cycle = create_cycle(
                connection,
                trigger="manual",
                run_key=None,
                strategy="naive",
                champion=1,
                experience=1,
                promote=True,
                now=NOW,
            )
            change_cycle(connection, cycle, state="kept", outcome="kept", numbers=numbers)

    def looks(reset=0):
        with catalog.read() as connection:
            return next_look(connection, reset)

    assert looks() == 1
    ended(None)
    ended({"anchor": {"look": 1, "reset": 0, "counts": True}})
    assert looks() == 2
    ended({"anchor": {"look": 2, "reset": 0, "counts": False}})
    assert looks() == 2
    ended({"anchor": {"look": 2, "reset": 0}})  # planned, and failed before it was compared
    ended({"anchor": {"look": 2, "reset": 0, "counts": True}})
    assert looks() == 3
    assert looks(reset=17) == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://ada:secret@nowhere/db", "psycopg"),
        ("postgres://ada:secret@nowhere/db", "dialects:postgres"),
        ("mysql+nothing://nowhere/db", "dialects:mysql.nothing"),
    ],
)
def test_catalog_without_its_driver_says_what_to_install(url, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not there
    with pytest.raises(ConfigError, match=said) as caught:
        Catalog(url)
    assert "pip install 'contlearn[postgres]'" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_catalog_in_a_folder_that_cannot_be_made_is_a_plain_error():
    with pytest.raises(StorageError, match="make the catalog's folder"):
        Catalog("sqlite:////sys/kernel/nowhere/c.sqlite")
