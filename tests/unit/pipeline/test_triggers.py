from datetime import UTC, datetime, timedelta

import pytest

from contlearn.catalog import Catalog
from contlearn.catalog.records import RecordCounts
from contlearn.config import UpdateConfig
from contlearn.pipeline.triggers import due_trigger, next_scheduled, note_fired, read_fired

NOW = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)


def due(update=None, *, since=NOW, last_ended=None, **counts):
    return due_trigger(
        update or UpdateConfig(min_new_records=10),
        RecordCounts(**counts),
        now=NOW,
        last_ended=last_ended,
        schedule_since=since,
    )


def test_nothing_is_due_without_records():
    assert due() is None


def test_enough_new_records_are_due():
    assert due(pending=10, never_tried=10).name == "count"
    assert due(pending=10, never_tried=9) is None


def test_records_that_were_refused_do_not_count():
    assert due(pending=50, never_tried=0) is None


def test_old_record_is_due_however_few_there_are():
    old = (NOW - timedelta(days=8)).isoformat()
    assert due(pending=1, never_tried=1, oldest_pending=old).name == "wait"


def test_cooldown_holds_back_what_starts_by_itself():
    ended = NOW - timedelta(minutes=10)
    assert due(pending=10, never_tried=10, last_ended=ended) is None
    update = UpdateConfig(min_new_records=10, cooldown="5m")
    assert due(update, pending=10, never_tried=10, last_ended=ended).name == "count"


def test_missed_schedule_is_due_once_however_many_were_missed():
    update = UpdateConfig(schedule="0 * * * *")
    found = due(update, since=NOW - timedelta(days=3), pending=1, never_tried=1)
    assert found.name == "schedule"
    assert due(update, since=NOW, pending=1, never_tried=1) is None


def test_schedule_has_one_run_key_for_one_moment():
    update = UpdateConfig(schedule="0 * * * *")
    keys = {due(update, since=NOW - timedelta(minutes=m)).run_key for m in (90, 80, 70)}
    assert keys == {"cron-2030-03-01T11:00:00+00:00"}


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # 31 March 2030, Berlin: 02:30 does not exist; it is served when the clock has jumped.
        ("30 2 * * *", "2030-03-30T12:00", ["2030-03-31T01:30", "2030-04-01T00:30"]),
        # 27 October 2030: 02:30 comes twice and is served the first time.
        ("30 2 * * *", "2030-10-26T12:00", ["2030-10-27T00:30", "2030-10-28T01:30"]),
        # Every hour is every hour of real time.
        ("0 * * * *", "2030-10-26T23:30", ["2030-10-27T00:00", "2030-10-27T01:00"]),
    ],
)
def test_daylight_saving_is_kept(schedule, after, expected):
    update = UpdateConfig(schedule=schedule, timezone="Europe/Berlin")
    moments = []
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    for _ in expected:
        moment = next_scheduled(update, moment)
        moments.append(moment)
    assert moments == [datetime.fromisoformat(m).replace(tzinfo=UTC) for m in expected]


def test_served_moment_survives_a_restart(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog:
        assert read_fired(catalog, "schedule") is None
        note_fired(catalog, "schedule", NOW, {})
        note_fired(catalog, "schedule", NOW + timedelta(hours=1), {})
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog:
        assert read_fired(catalog, "schedule") == NOW + timedelta(hours=1)
