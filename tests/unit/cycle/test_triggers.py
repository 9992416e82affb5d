from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from contlearn.catalog import Catalog
from contlearn.catalog.cycles import CycleRow
from contlearn.catalog.records import RecordCounts
from contlearn.config import UpdateConfig
from contlearn.config.schedule import local_day, next_scheduled, quiet_until
from contlearn.cycle.causes import (
    Request,
    add_seconds_today,
    note_fired,
    read_fired,
    read_request,
    request_update,
    seconds_today,
)
from contlearn.cycle.triggers import Trigger, TriggerFacts, due_triggers, holds_back, unused
from contlearn.monitoring.signals import AccuracySignal, DriftSignal, Signals

NOW = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)
MANY = RecordCounts(pending=50, never_tried=50)
CYCLE = CycleRow(
    seq=4, cycle_id="c4", run_key="count-after-c3", trigger="count", state="promoted", outcome="promoted",
    strategy="replay", champion=2, version=3, experience=3, promote=True, started_at=NOW.isoformat(),
    ended_at=NOW.isoformat(), attempts=1, reasons=None, metrics=None, numbers=None, error=None,
)  # fmt: skip


def facts(counts=MANY, **more):
    return TriggerFacts(**{"counts": counts, "now": NOW, "schedule_since": NOW, **more})


def due(update=None, **more):
    return due_triggers(update or UpdateConfig(min_new_records=10), facts(**more))


def names(update=None, **more):
    return [trigger.name for trigger in due(update, **more)]


def test_nothing_is_due_without_records():
    assert names(counts=RecordCounts()) == []


def test_enough_new_records_are_due():
    assert names(counts=RecordCounts(pending=10, never_tried=10)) == ["count"]
    assert names(counts=RecordCounts(pending=10, never_tried=9)) == []


def test_records_that_were_refused_do_not_count():
    assert names(counts=RecordCounts(pending=50, never_tried=0)) == []


KEPT = RecordCounts(pending=50, kept=50)
DRIFT = DriftSignal(detected=True, consecutive=3)
FALLEN = AccuracySignal(value=0.7, low=0.65, high=0.75, records=400, reference=0.9, dropped=True)
AGO = (NOW - timedelta(days=8)).isoformat()


def of_monitoring(**more):
    return Signals(look=7, written_at=NOW.isoformat(), version=2, **more)


@pytest.mark.parametrize(
    ("name", "fresh", "more"),
    [
        ("count", RecordCounts(pending=60, kept=50, never_tried=10), {}),
        ("wait", RecordCounts(pending=51, kept=50, never_tried=1, oldest_pending=AGO), {}),
        ("retry", RecordCounts(pending=51, kept=50), {"last": replace(CYCLE, outcome="failed")}),
        ("new-label", RecordCounts(pending=51, kept=50), {"new_labels": {"refund": 90}}),
        ("drift", RecordCounts(pending=51, kept=50), {"signals": of_monitoring(drift=DRIFT)}),
        (
            "measured-accuracy",
            RecordCounts(pending=51, kept=50),
            {"signals": of_monitoring(measured=FALLEN)},
        ),
        (
            "estimated-accuracy",
            RecordCounts(pending=51, kept=50),
            {"signals": of_monitoring(estimated=FALLEN)},
        ),
    ],
)
def test_kept_records_alone_are_due_for_nothing_and_with_others_for_all(name, fresh, more):
    more = {"champion": 2, "last": CYCLE, **more}
    assert names(counts=KEPT, **more) == []
    assert names(counts=fresh, **more) == [name]


def test_request_tries_kept_records_again():
    request = Request("r1", NOW, "ada", "")
    assert names(counts=KEPT, request=request, last=CYCLE) == ["request"]


def test_old_record_is_due_however_few_there_are():
    old = (NOW - timedelta(days=8)).isoformat()
    (trigger,) = due(counts=RecordCounts(pending=1, never_tried=1, oldest_pending=old))
    assert (trigger.name, trigger.run_key) == ("wait", "wait-after-start")
    assert "192.0 hours" in trigger.reason


def test_record_from_the_future_is_due_because_its_age_is_not_known():
    future = (NOW + timedelta(days=400)).isoformat()
    assert names(counts=RecordCounts(pending=1, never_tried=1, oldest_pending=future)) == ["wait"]


def test_count_has_one_run_key_after_one_cycle():
    keys = {due(now=NOW + timedelta(hours=h), last=CYCLE)[0].run_key for h in range(3)}
    assert keys == {"count-after-c4"}


def test_failed_cycle_is_tried_again_but_not_one_by_hand():
    failed = replace(CYCLE, outcome="failed")
    retry = due(counts=RecordCounts(pending=3), last=failed)[0]
    assert (retry.name, retry.run_key) == ("retry", "retry-c4")
    assert names(counts=RecordCounts(pending=3), last=replace(failed, trigger="manual")) == []


def test_missed_schedule_is_due_once_however_many_were_missed():
    update = UpdateConfig(schedule="0 * * * *")
    found = due(update, schedule_since=NOW - timedelta(days=3), counts=RecordCounts())
    assert [trigger.name for trigger in found] == ["schedule"]
    assert names(update, schedule_since=NOW, counts=RecordCounts()) == []


def test_schedule_has_one_run_key_for_one_moment():
    update = UpdateConfig(schedule="0 * * * *")
    keys = {due(update, schedule_since=NOW - timedelta(minutes=m))[0].run_key for m in (90, 80, 70)}
    assert keys == {"cron-2030-03-01T11:00:00+00:00"}


def test_label_the_champion_does_not_know_is_due_with_enough_examples():
    update = UpdateConfig(min_new_label_records=20)
    few, many = {"refund": 19}, {"refund": 20, "other": 3}
    assert names(update, champion=3, new_labels=few) == []
    (trigger,) = due(update, champion=3, new_labels=many)
    assert trigger.name == "new-label"
    assert "'refund' (20)" in trigger.reason
    assert names(update, champion=None, new_labels=many) == []
    assert names(UpdateConfig(min_new_label_records=0), champion=3, new_labels=many) == []
    # The same label is the same cause until a new champion was made without learning it.
    again = due(update, champion=3, new_labels={"refund": 50, "other": 3})[0]
    assert again.run_key == trigger.run_key
    assert due(update, champion=4, new_labels=many)[0].run_key != trigger.run_key


def signals(**more):
    return Signals(look=7, written_at=NOW.isoformat(), version=3, **more)


def test_drift_is_due_when_two_looks_in_a_row_alarmed_for_the_champion():
    drift = DriftSignal(
        detected=True, severity="strong", consecutive=2, since="2030-03-01", explanation=("longer",)
    )
    (trigger,) = due(champion=3, signals=signals(drift=drift), counts=RecordCounts(pending=1))
    assert (trigger.name, trigger.run_key) == ("drift", "drift-3-2030-03-01")
    assert "longer" in trigger.reason
    once = signals(drift=replace(drift, consecutive=1))
    assert names(champion=3, signals=once, counts=RecordCounts(pending=1)) == []
    assert names(champion=4, signals=signals(drift=drift), counts=RecordCounts(pending=1)) == []
    off = UpdateConfig(on_drift=False)
    assert names(off, champion=3, signals=signals(drift=drift)) == []


def test_drift_without_records_to_learn_starts_nothing():
    drift = DriftSignal(detected=True, consecutive=3)
    assert names(champion=3, signals=signals(drift=drift), counts=RecordCounts()) == []


def test_fallen_accuracy_is_due_measured_or_estimated():
    fallen = AccuracySignal(
        value=0.7, low=0.65, high=0.75, records=400, reference=0.9, dropped=True
    )
    found = due(
        champion=3,
        signals=signals(measured=fallen, estimated=fallen),
        counts=RecordCounts(pending=1),
    )
    assert [t.name for t in found] == ["measured-accuracy", "estimated-accuracy"]
    assert "0.700 (0.650 to 0.750) on 400 records" in found[0].reason
    off = UpdateConfig(on_measured_drop=False, on_estimated_drop=False)
    assert names(off, champion=3, signals=signals(measured=fallen, estimated=fallen)) == []


def test_request_comes_first_and_waits_for_nothing():
    request = Request("r1", NOW, "ada", "before the fair")
    update = UpdateConfig(min_new_records=10, quiet_hours=("00:00-24:00",), cooldown="1d")
    found = due(update, request=request, last=CYCLE)
    assert [t.name for t in found] == ["request", "count"]
    assert found[0].reason == "asked for by ada: before the fair"
    assert holds_back(update, facts(last=CYCLE), found[0]) is None
    assert holds_back(update, facts(last=CYCLE), found[1]) is not None


COUNT = Trigger("count", "", "")
SCHEDULE = Trigger("schedule", "", "")


def test_cooldown_holds_back_what_starts_by_itself():
    ended = replace(CYCLE, ended_at=(NOW - timedelta(minutes=10)).isoformat())
    assert "cool-down until" in holds_back(UpdateConfig(), facts(last=ended), COUNT)
    assert holds_back(UpdateConfig(cooldown="5m"), facts(last=ended), COUNT) is None
    # The schedule is the user's own word.
    assert holds_back(UpdateConfig(), facts(last=ended), SCHEDULE) is None


def test_cooldown_does_not_wait_for_a_clock_that_was_set_back():
    future = replace(CYCLE, ended_at=(NOW + timedelta(days=3000)).isoformat())
    assert holds_back(UpdateConfig(), facts(last=future), COUNT) is None


def test_budget_holds_back_until_the_next_day(tmp_path):
    update = UpdateConfig(max_minutes_per_day=30, timezone="Asia/Tokyo")
    assert holds_back(update, facts(seconds_today=1799), COUNT) is None
    assert "30 minutes for 2030-03-01" in holds_back(update, facts(seconds_today=1800), COUNT)
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog:
        late = datetime(2030, 3, 1, 14, 59, tzinfo=UTC)  # 23:59 in Tokyo
        day = local_day(update, late)
        add_seconds_today(catalog, day, 1000, now=late)
        add_seconds_today(catalog, day, 900, now=late)
        assert seconds_today(catalog, day) == 1900
        assert seconds_today(catalog, local_day(update, late + timedelta(minutes=1))) == 0


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        ("08:00-18:00", "2030-03-01T12:00", "2030-03-01T17:00"),  # a Friday, Berlin is one ahead
        ("22:00-06:00", "2030-03-01T23:00", "2030-03-02T05:00"),
        ("22:00-06:00", "2030-03-01T12:00", None),
        ("mon-thu 08:00-18:00", "2030-03-01T12:00", None),
        ("fri 22:00-06:00", "2030-03-02T03:00", "2030-03-02T05:00"),  # began on Friday evening
        ("sat,sun 00:00-24:00", "2030-03-02T12:00", "2030-03-03T23:00"),
        ("sat-mon 00:00-24:00", "2030-03-02T12:00", "2030-03-04T23:00"),
        # The night of 31 March 2030 is an hour shorter.
        ("22:00-06:00", "2030-03-31T00:30", "2030-03-31T04:00"),
    ],
)
def test_quiet_hours_end_on_the_clock_of_the_time_zone(quiet, now, until):
    update = UpdateConfig(quiet_hours=(quiet,), timezone="Europe/Berlin")
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    expected = None if until is None else datetime.fromisoformat(until).replace(tzinfo=UTC)
    assert quiet_until(update, moment) == expected


@pytest.mark.parametrize("wrong", ["25:00-06:00", "noon", "mon 8-18", "day 08:00-18:00"])
def test_quiet_hours_that_cannot_be_read_are_refused(wrong):
    with pytest.raises(ValueError, match="is not a"):
        UpdateConfig(quiet_hours=(wrong,))


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


def test_request_waits_until_it_is_served_and_two_are_one(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog:
        assert read_request(catalog) is None
        asked = request_update(catalog, at=NOW, by="ada", reason="now")
        assert request_update(catalog, at=NOW, by="bob", reason="too") == asked
        assert read_request(catalog) == asked
        note_fired(catalog, "request", NOW, {})
        assert read_request(catalog) is None


def test_cause_that_had_its_cycle_is_left_out(tmp_path):
    from contlearn.catalog.cycles import create_cycle

    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog, catalog.write() as connection:
        create_cycle(
            connection, trigger="count", run_key="a", strategy="s", champion=None, experience=0,
            promote=True, now=NOW,
        )  # fmt: skip
        left = unused(connection, [Trigger("count", "", "a"), Trigger("wait", "", "b")])
    assert [trigger.name for trigger in left] == ["wait"]


SUSPECTED = RecordCounts(pending=40, suspected=40)


def test_parts_are_due_after_everything_else_and_have_one_key_after_one_cycle():
    (trigger,) = due(counts=SUSPECTED, last=CYCLE)
    assert (trigger.name, trigger.run_key) == ("part", "part-after-c4")
    both = RecordCounts(pending=90, never_tried=50, suspected=40)
    failed, part = replace(CYCLE, outcome="failed"), replace(CYCLE, trigger="part")
    # By turns: the rest after a failure and after a part, a part after the rest.
    assert names(counts=both, last=failed) == ["retry", "count", "part"]
    assert names(counts=both, last=part) == ["count", "part"]
    assert names(counts=both, last=replace(part, outcome="failed")) == ["count", "part"]
    assert names(counts=both, last=CYCLE) == ["part", "count"]


def test_no_part_replaces_a_challenger_that_awaits_approval():
    assert names(counts=RecordCounts(pending=60, suspected=40, awaiting=20), last=CYCLE) == []


def test_a_part_waits_after_a_failure_but_for_no_cool_down():
    update, trigger = UpdateConfig(), Trigger("part", "", "")
    failed = replace(CYCLE, outcome="failed")
    assert "60 s" in holds_back(update, facts(last=failed), trigger, part_seconds=60.0)
    later = facts(last=failed, now=NOW + timedelta(seconds=61))
    assert holds_back(update, later, trigger, part_seconds=60.0) is None
    assert holds_back(update, facts(last=CYCLE), trigger, part_seconds=60.0) is None
