"""One watched workspace, step by step: real catalog, inbox, registry and child, scripted trainer."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa
import structlog

from contlearn.catalog.leases import DAEMON_LEASE, hold_lease, holder_of
from contlearn.catalog.records import release_records
from contlearn.catalog.schema import leases
from contlearn.cycle.causes import request_update
from contlearn.data.intake.known import known_labels
from contlearn.errors import WorkspaceLocked
from contlearn.monitoring.signals import DriftSignal, Signals, write_signals
from contlearn.testing import FakeClock
from tests.scripted import drop, make_workspace, open_watch, outcomes, states


@pytest.fixture
def made(tmp_path, monkeypatch):
    from pathlib import Path

    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", root)
    opened = []

    def make(more="", clock=None, **options):
        workspace = make_workspace(tmp_path / "ws", more)
        watch = open_watch(workspace, clock, **options)
        opened.append(watch)
        watch.begin()
        return workspace, watch

    yield make
    for watch in opened:
        watch.context.close()


def later(watch, seconds):
    watch.context.clock.sleep(seconds)
    return watch.step()


def test_files_are_learnt_once_and_the_reason_is_kept(made):
    workspace, watch = made()
    drop(workspace, "calm", 20)
    result = watch.step()
    assert (result.outcome, result.version) == ("promoted", 1)
    assert watch.step() is None
    assert outcomes(watch) == [("count", "promoted")]
    assert set(states(watch)) == {"learnt"}


def test_a_label_close_to_a_common_one_founds_no_class_and_is_logged(made):
    workspace, watch = made("[update]\nmin_new_records = 1000\n")
    drop(workspace, "card_arrival", 40)
    watch.step()
    drop(workspace, "card_arival", 3)
    with structlog.testing.capture_logs() as logs:
        watch.step()
    (found,) = [line for line in logs if line["event"].startswith("rows wait")]
    assert (found["label"], found["near"], found["rows"]) == ("card_arival", "card_arrival", 3)
    assert found["accept_as_near"].endswith("--accept card_arival=card_arrival")
    with watch.context.catalog.read() as connection:
        assert "card_arival" not in known_labels(connection)


def test_new_label_is_learnt_before_there_are_many_records(made):
    workspace, watch = made("[update]\nmin_new_label_records = 4\nmin_new_records = 15\n")
    drop(workspace, "calm", 20)
    watch.step()
    drop(workspace, "calm", 6)
    assert watch.step() is None
    drop(workspace, "fresh", 7)
    result = watch.step()
    assert outcomes(watch)[-1] == ("new-label", "promoted")
    assert "fresh" in watch.context.registry.get(result.version).label_space.names


def test_drift_starts_one_update_for_one_alarm(made):
    workspace, watch = made("[update]\nmin_new_records = 100\n")
    request_update(watch.context.catalog, at=watch.context.clock.now(), by="ada", reason="")
    drop(workspace, "calm", 20)
    assert watch.step().outcome == "promoted"
    drift = DriftSignal(detected=True, consecutive=2, severity="strong", since="a")
    write_signals(workspace.state, Signals(look=1, written_at="", version=1, drift=drift))
    assert watch.step() is None  # nothing to learn
    drop(workspace, "bad", 4)
    assert watch.step().outcome == "refused"
    assert later(watch, 3600) is None  # the alarm goes on: it is the same cause
    drift = DriftSignal(detected=True, consecutive=2, severity="strong", since="b")
    write_signals(workspace.state, Signals(look=9, written_at="", version=1, drift=drift))
    assert watch.step().outcome == "refused"
    assert [trigger for trigger, _ in outcomes(watch)] == ["request", "drift", "drift"]
    assert states(watch)["held"] == 4


def test_kept_records_start_nothing_until_others_come_or_somebody_asks(made):
    workspace, watch = made('[update]\nschedule = "0 3 * * *"\nmin_new_label_records = 4\n')
    drop(workspace, "calm", 20)
    assert watch.step().outcome == "promoted"
    drop(workspace, "meh", 12)
    assert watch.step().outcome == "kept"
    assert watch.back_off.failures == 0
    drift = DriftSignal(detected=True, consecutive=2, severity="strong", since="a")
    write_signals(workspace.state, Signals(look=1, written_at="", version=1, drift=drift))
    for _ in range(10):  # days, in which the schedule comes by
        result = later(watch, 86400)
        assert result is None or result.outcome == "nothing-to-do"
    assert len(outcomes(watch)) == 2
    assert set(states(watch)) == {"learnt", "kept"}
    request_update(watch.context.catalog, at=watch.context.clock.now(), by="ada", reason="")
    assert watch.step().outcome == "kept"
    drop(workspace, "calm", 12)
    assert watch.step().outcome == "promoted"
    assert set(states(watch)) == {"learnt"}
    assert [outcome for _, outcome in outcomes(watch)] == ["promoted", "kept", "kept", "promoted"]


def test_labels_of_kept_records_are_no_cause(made):
    workspace, watch = made("[update]\nmin_new_records = 12\nmin_new_label_records = 4\n")
    drop(workspace, "calm", 20)
    watch.step()
    drop(workspace, "meh", 12)
    request_update(watch.context.catalog, at=watch.context.clock.now(), by="ada", reason="")
    assert watch.step().outcome == "kept"
    drop(workspace, "calm", 1)
    assert later(watch, 3600) is None  # the one record is no reason, nor is the label beside it
    drop(workspace, "meh", 4)
    assert watch.step().outcome == "promoted"
    assert outcomes(watch)[-1] == ("new-label", "promoted")


@pytest.mark.slow
def test_poison_batch_is_set_apart_after_three_failures_and_the_rest_goes_on(made):
    workspace, watch = made()
    drop(workspace, "crash", 12)
    assert watch.step().outcome == "failed"
    drop(workspace, "calm", 15)
    assert watch.step() is None  # backs off
    assert watch.judging.waits["count"] == "waiting 60 s after a failure"
    assert later(watch, 61).outcome == "failed"
    assert later(watch, 61) is None
    third = later(watch, 60)
    assert (third.outcome, third.suspected, third.held) == ("failed", 12, 0)
    # At once, without more waiting: what stood in the way is out of the way.
    assert watch.step().outcome == "promoted"
    assert states(watch) == {"pending": 12, "learnt": 15}
    assert watch.step().outcome == "failed"
    drop(workspace, "calm", 15)
    assert watch.step().outcome == "promoted"  # a part that failed holds nothing up
    assert watch.step().outcome == "failed"
    assert states(watch) == {"held": 12, "learnt": 30}
    assert [trigger for trigger, _ in outcomes(watch)] == [
        "count", "retry", "retry", "retry", "part", "count", "part",
    ]  # fmt: skip
    with watch.context.catalog.read() as connection:
        reasons = set(
            connection.execute(sa.text("select reason from records where state='held'")).scalars()
        )
    assert "Both halves of these records failed alone" in reasons.pop()
    # Released records get all their tries again.
    with watch.context.catalog.write() as connection:
        release_records(connection)
    assert later(watch, 60).outcome == "failed"
    assert later(watch, 61).outcome == "failed"
    assert states(watch) == {"pending": 12, "learnt": 30}


@pytest.mark.slow
def test_one_bad_file_of_many_is_found_and_the_others_are_learnt(made):
    workspace, watch = made()
    drop(workspace, "crash", 4)
    for _ in range(7):
        drop(workspace, "calm", 4)
    failures = 0
    for _ in range(60):
        result = later(watch, 61)
        failures += result is not None and result.outcome == "failed"
    assert states(watch) == {"held": 4, "learnt": 28}
    assert failures <= 3 + 3 + 2  # to suspect them, between files, inside one
    again = open_watch(workspace, watch.context.clock)
    again.begin()  # a restart waits for nothing: what failed is out of the way
    assert again.back_off.failures == 0
    again.context.close()


def test_a_part_waits_after_one_that_failed(made):
    workspace, watch = made()
    drop(workspace, "crash", 12)
    while (result := later(watch, 61)) is None or not result.suspected:
        pass
    assert watch.step() is None
    assert watch.judging.waits["part"] == "waiting 60 s after a failure"
    assert later(watch, 60).outcome == "failed"


def test_back_off_doubles_up_to_its_cap_calls_somebody_and_survives_a_restart(made):
    workspace, watch = made(
        "[daemon]\npoison_failures = 9\nmax_retry_seconds = 200\n[notifications]\n"
        'channels = [{name = "c", kind = "command", command = ["true"], events = ["none"]}]\n'
    )
    drop(workspace, "crash", 12)
    waits = []
    for _ in range(4):
        while (result := later(watch, 1)) is None:
            pass
        assert result.outcome == "failed"
        waits.append(watch.back_off.left())
    assert waits == [60, 120, 200, 200]
    alerts = [p.name for p in workspace.outbox.glob("sent/*alert-failing*")]
    assert len(alerts) == 1
    watch.context.clock.sleep(150)
    again = open_watch(workspace, watch.context.clock)
    again.begin()
    assert again.back_off.failures == 4
    assert again.back_off.left() == pytest.approx(50, abs=1)
    again.context.close()


def test_child_over_its_memory_fails_its_cycle_only(made):
    workspace, watch = made("[daemon]\nmemory_bytes = 60000000\n")
    drop(workspace, "hog", 12)
    result = watch.step()
    assert result.outcome == "failed"
    assert "more than 60 MB of memory" in str(result.error)
    assert states(watch) == {"pending": 12}


def test_stuck_child_is_ended(made):
    workspace, watch = made("[daemon]\nstuck_time = 1\ngrace_seconds = 1\n")
    drop(workspace, "hang", 12)
    assert "it is stuck" in str(watch.step().error)


def test_failure_outside_the_records_holds_none(made):
    workspace, watch = made("[retention]\nmin_free_bytes = '900TB'\n")
    drop(workspace, "calm", 12)
    for _ in range(5):
        assert watch.step() is None
        assert "does not fit on the disk" in watch.last_error
        watch.context.clock.sleep(3601)
    assert states(watch) == {"pending": 12}
    assert outcomes(watch) == []


@pytest.mark.slow
def test_schedule_runs_once_for_each_moment_whatever_the_clock_does(made):
    clock = FakeClock()
    workspace, watch = made(
        '[update]\nschedule = "0 3 * * *"\nmin_new_records = 1000\n', clock=clock
    )
    served = []

    def until(moment):
        while clock.now() < moment:
            if clock.now().hour in (0, 12) and clock.now().minute < 30:
                drop(workspace, "calm", 1)
            if (result := later(watch, 1800)) is not None and result.cycle:
                served.append(clock.now().isoformat(timespec="minutes"))

    until(clock.now() + timedelta(days=2))
    assert served == ["2030-01-01T03:00+00:00", "2030-01-02T03:00+00:00"]
    clock.jump(-86400)  # back to the second of January: three o'clock has been
    until(clock.now() + timedelta(days=1))
    assert len(served) == 2
    clock.jump(10 * 86400)  # ten moments are missed: one update
    until(clock.now() + timedelta(hours=2))
    assert len(served) == 3
    clock.jump(-5 * 86400)
    drop(workspace, "calm", 1)
    until(clock.now() + timedelta(days=3))
    assert len(served) == 6
    keys = [c.run_key for c in _cycles(watch)]
    assert len(keys) == len(set(keys)) == 6


def _cycles(watch):
    from contlearn.catalog.cycles import list_cycles

    with watch.context.catalog.read() as connection:
        return list_cycles(connection)


def test_challenger_that_awaits_approval_is_not_made_again(made):
    workspace, watch = made("[gate]\napproval = 'manual'\n")
    drop(workspace, "calm", 12)
    assert watch.step().outcome == "awaiting-approval"
    for _ in range(3):
        assert later(watch, 8 * 86400) is None
    drop(workspace, "calm", 5)
    assert watch.step() is None
    drop(workspace, "calm", 5)
    assert watch.step().outcome == "awaiting-approval"  # it contains the one before
    assert outcomes(watch) == [("count", "not-promoted"), ("count", "awaiting-approval")]
    from contlearn.cycle.changes import promote_version

    promote_version(watch.context, 2, actor="ada", reason="looks well")
    assert watch.step() is None
    assert states(watch) == {"learnt": 22}


def test_budget_of_a_day_is_kept(made):
    workspace, watch = made("[update]\nmax_minutes_per_day = 1\nmin_new_records = 5\n")
    from contlearn.cycle.causes import add_seconds_today

    day = f"{watch.context.clock.now():%Y-%m-%d}"
    add_seconds_today(watch.context.catalog, day, 60, now=watch.context.clock.now())
    drop(workspace, "calm", 12)
    assert watch.step() is None
    assert "budget of 1 minutes" in watch.judging.waits["count"]
    assert later(watch, 86400).outcome == "promoted"


def test_bad_configuration_is_refused_and_the_old_one_kept(made):
    workspace, watch = made()
    text = workspace.config_file.read_text()
    workspace.config_file.write_text(text.replace("min_new_records = 10", "min_new_records = 0"))
    watch.reload()
    assert "min_new_records" in watch.reloading.refused  # at once, also while an update runs
    watch.step()
    assert watch.context.config.update.min_new_records == 10
    assert "min_new_records" in watch.reloading.refused
    workspace.config_file.write_text(text.replace("min_new_records = 10", "min_new_records = 50"))
    watch.reload()
    watch.step()
    assert (watch.context.config.update.min_new_records, watch.reloading.refused) == (50, None)


def test_name_of_the_model_stays_while_the_daemon_runs(made):
    """Metrics, pages and the log go by it, and another workspace may have the new one."""
    workspace, watch = made()
    text = workspace.config_file.read_text()
    workspace.config_file.write_text(text.replace('name = "test"', 'name = "other"'))
    watch.reload()
    assert "model.name cannot change while the daemon runs" in watch.reloading.refused
    watch.step()
    assert watch.context.config.model.name == "test"


def test_second_daemon_stands_by_and_takes_over(made, tmp_path):
    workspace, first = made(clock=None)
    from contlearn.workspace import SystemClock

    stop, other_stop = threading.Event(), threading.Event()
    first.stop = stop
    second = open_watch(workspace, SystemClock(), stop=other_stop, standby=True)
    one = threading.Thread(target=first.run)
    one.start()
    _wait(lambda: holder_of(first.context.catalog, "daemon") is not None)
    two = threading.Thread(target=second.run)
    two.start()
    _wait(lambda: second.doing == "standing by")
    time.sleep(1.0)
    assert not second.is_active
    third = open_watch(workspace, standby=False)
    with pytest.raises(WorkspaceLocked, match="watching this workspace"):
        third.run()
    stop.set()
    one.join(timeout=30)
    _wait(lambda: second.is_active)
    other_stop.set()
    two.join(timeout=30)
    assert not two.is_alive()
    second.context.close()
    third.context.close()


def test_holder_that_stood_still_notices_that_it_lost_its_lease(made):
    _, watch = made()
    catalog, lost = watch.context.catalog, threading.Event()
    with hold_lease(catalog, "x", purpose="testing", seconds=3, heartbeat_seconds=0.2, lost=lost):
        with catalog.write() as connection:  # as a machine that took over would
            connection.execute(
                leases.update().where(leases.c.name == "x").values(token=99, owner="elsewhere:::")
            )
        assert lost.wait(20)
    assert holder_of(catalog, "x") is not None


def test_who_stood_still_writes_over_nobody_elses_state(made, monkeypatch):
    workspace, watch = made()
    catalog, file = watch.context.catalog, workspace.state / "daemon.json"
    judge = watch.judging.next_trigger

    def stand_still(**options):
        with catalog.write() as connection:
            connection.execute(
                leases.update()
                .where(leases.c.name == DAEMON_LEASE)
                .values(token=99, owner="elsewhere:::")
            )
        file.write_text('{"pid": 1}')
        return judge(**options)

    lost = threading.Event()
    with hold_lease(
        catalog, DAEMON_LEASE, purpose="testing", seconds=600, heartbeat_seconds=300, lost=lost
    ) as watch._token:
        watch.step()
        assert json.loads(file.read_bytes())["pid"] == os.getpid()
        monkeypatch.setattr(watch.judging, "next_trigger", stand_still)
        later(watch, 600)
        assert json.loads(file.read_bytes()) == {"pid": 1}
        assert watch.must_stop()


def test_lease_that_a_clock_set_forward_has_expired_is_not_taken(made):
    _, watch = made()
    catalog = watch.context.catalog
    with hold_lease(catalog, "x", purpose="testing", seconds=60, heartbeat_seconds=0.2):
        with catalog.write() as connection:
            connection.execute(leases.update().where(leases.c.name == "x").values(expires_at=1.0))
        with (
            pytest.raises(WorkspaceLocked),
            hold_lease(catalog, "x", purpose="testing", seconds=60, heartbeat_seconds=2.0),
        ):
            raise AssertionError("two holders")


def test_an_idle_round_asks_the_catalog_nothing_and_a_request_is_seen_at_once(made):
    workspace, watch = made()
    drop(workspace, "calm", 12)
    assert watch.step().outcome == "promoted"
    for _ in range(3):
        assert watch.step() is None
    asked = []
    sa.event.listen(
        watch.context.catalog.engine, "before_cursor_execute", lambda *given: asked.append(given[2])
    )
    assert watch.step() is None
    assert asked == []
    assert later(watch, 6) is None  # what time brings is looked for
    assert asked
    drop(workspace, "calm", 3)
    assert watch.step() is None
    request_update(watch.context.catalog, at=watch.context.clock.now(), by="ada", reason="now")
    assert watch.step().outcome == "promoted"


def test_state_says_what_is_due_what_waits_and_why(made):
    workspace, watch = made('[update]\nquiet_hours = ["00:00-24:00"]\n')
    drop(workspace, "calm", 12)
    watch.step()
    value = json.loads((workspace.state / "daemon.json").read_bytes())
    assert value["due"] == ["count"]
    assert value["waits"]["count"].startswith("quiet hours until")
    assert value["doing"].startswith("12 new records (at least 10); quiet hours")
    assert value["disk"]["missing_bytes"] == 0


def _wait(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
