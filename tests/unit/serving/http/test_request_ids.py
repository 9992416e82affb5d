from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime

import pytest

from contlearn.serving.http.request_ids import ClaimedIds, is_client_id, new_id
from contlearn.testing import FakeClock

NOON = datetime(2030, 3, 17, 12, tzinfo=UTC)


@pytest.fixture
def clock():
    return FakeClock(NOON)


def started(folder, clock, **options):
    made = ClaimedIds(folder, clock, **options)
    made.start()
    return made


def test_ids_of_ours_are_no_clients_and_never_the_same():
    found = {new_id() for _ in range(2_000)}
    assert len(found) == 2_000
    assert not any(map(is_client_id, found))


@pytest.mark.parametrize("text", ["", "a b", "a\n", "é", "x" * 129, "a/b"])
def test_what_is_no_id_is_refused(text):
    assert not is_client_id(text)


def test_an_id_is_claimed_once_in_memory_alone(clock):
    claimed = ClaimedIds(None, clock)
    assert [claimed.claim("a"), claimed.claim("b"), claimed.claim("a")] == [True, True, False]


def test_an_id_is_claimed_once_by_servers_that_share_a_folder(tmp_path, clock):
    first, second = started(tmp_path, clock), started(tmp_path, clock)
    assert [first.claim("a"), second.claim("a"), second.claim("b"), first.claim("b")] == [
        True, False, True, False
    ]  # fmt: skip
    assert not started(tmp_path, clock).claim("a")


def test_servers_whose_clocks_are_days_apart_agree(tmp_path):
    early, late = FakeClock(NOON), FakeClock(datetime(2030, 3, 18, 0, 0, 1, tzinfo=UTC))
    first, second = started(tmp_path, late), started(tmp_path, early)
    assert first.claim("a")
    assert not second.claim("a")
    assert second.claim("b")
    assert not first.claim("b")


def test_servers_that_race_never_share_an_id(tmp_path, clock):
    names = [f"id-{n}" for n in range(300)]
    holders, lock = Counter(), threading.Lock()
    begin = threading.Barrier(6)

    def work(claimed):
        begin.wait()
        mine = [name for name in names if claimed.claim(name)]
        with lock:
            holders.update(mine)

    threads = [threading.Thread(target=work, args=[started(tmp_path, clock)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # All write to one day's file, where the first line decides: one holder each, never two.
    assert holders == dict.fromkeys(names, 1)


def test_a_line_cut_by_a_full_disk_costs_ids_and_shares_none(tmp_path, clock):
    first = started(tmp_path, clock)
    assert first.claim("a")
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b"0123")
    second = started(tmp_path, clock)
    assert not second.claim("a")
    assert [second.claim("b"), first.claim("b")].count(True) <= 1
    assert second.claim("c")


def test_a_folder_that_cannot_be_written_gives_nobody_an_id(tmp_path, clock):
    (tmp_path / "file").write_text("")
    assert not started(tmp_path / "file", clock).claim("a")


def test_old_days_go_and_memory_is_bounded(tmp_path, clock):
    claimed = started(tmp_path, clock, max_age_days=2)
    for number in range(5):
        assert claimed.claim(f"a{number}")
        clock.sleep(86_400)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["20300319.ids", "20300320.ids", "20300321.ids"]
    assert started(tmp_path, clock, max_age_days=2).claim("a0")


def test_many_claims_are_folded_and_still_known(tmp_path, clock):
    claimed = ClaimedIds(None, clock)
    assert all(claimed.claim(f"a{n}") for n in range(60_000))
    assert not any(claimed.claim(f"a{n}") for n in (0, 49_999, 50_000, 59_999))


def test_ids_from_before_are_carried_over_once(tmp_path, clock):
    folder = tmp_path / "requests"
    assert not started(folder, clock, earlier=lambda: ["old"]).claim("old")
    assert not started(folder, clock, earlier=lambda: ["other"]).claim("old")
