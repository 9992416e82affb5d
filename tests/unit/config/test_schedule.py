"""Schedules mean what crontab(5) says, and what can never be is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from contlearn.config import UpdateConfig
from contlearn.config.schedule import next_scheduled, read_cron
from contlearn.context import Context
from contlearn.errors import ConfigError

MONDAY = datetime(2030, 4, 1, 12, tzinfo=UTC)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def days_of(schedule):
    """Give the days of the week on which a schedule fires in the week after a Monday's noon."""
    update, moment, found = UpdateConfig(schedule=schedule), MONDAY, []
    while (moment := next_scheduled(update, moment)) <= MONDAY + timedelta(days=7):
        found.append(DAYS[moment.weekday()])
    return found


@pytest.mark.parametrize(
    ("schedule", "days"),
    [
        ("0 3 * * 0", ["sun"]),
        ("0 3 * * 7", ["sun"]),
        ("0 3 * * 1", ["mon"]),
        ("0 3 * * 1-5", ["tue", "wed", "thu", "fri", "mon"]),
        ("0 3 * * 5-7", ["fri", "sat", "sun"]),
        ("0 3 * * Mon,6", ["sat", "mon"]),
        ("0 3 * * sat-mon", ["sat", "sun", "mon"]),
        ("0 3 * * */3", ["wed", "sat", "sun"]),
        ("0 3 * * 2/2", ["tue", "thu", "sat"]),
        ("@weekly", ["sun"]),
        ("@daily", ["tue", "wed", "thu", "fri", "sat", "sun", "mon"]),
    ],
)
def test_days_of_the_week_count_from_sunday(schedule, days):
    assert days_of(schedule) == days


def test_a_day_of_the_month_or_one_of_the_week_is_enough():
    assert days_of("0 3 4 * 6") == ["thu", "sat"]  # the fourth is a Thursday
    # With a star at its beginning, the day of the month must hold as well.
    assert days_of("0 3 */2 * 2,3") == ["wed"]  # the third; the second is a Tuesday


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("0 2 30 2 *", "no such day in any year"),
        ("0 2 31 4,6 *", "no such day in any year"),
        ("nonsense", "1 fields"),
        ("0 2 * * 8", "'8' is not a day of the week"),
        ("0 2 * * moon", "'moon' is not a day of the week"),
        ("0 2 * * 1/0", "not a step"),
        ("60 2 * * *", "60"),
        ("@reboot", "1 fields"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(workspace, schedule, words):
    with pytest.raises(ValueError, match=words):
        read_cron(schedule, "UTC")
    with workspace.config_file.open("a") as file:
        file.write(f'\n[update]\nschedule = "{schedule}"\n')
    with pytest.raises(ConfigError, match=r"cannot be read: .*update\.schedule"):
        Context.open(workspace.root)


def test_a_leap_day_is_waited_for():
    update = UpdateConfig(schedule="0 2 29 2 *")
    assert next_scheduled(update, MONDAY) == datetime(2032, 2, 29, 2, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "", "UTC+25"])
def test_an_unknown_time_zone_is_refused_with_or_without_a_schedule(zone):
    with pytest.raises(ValidationError, match="is not known; write one such as Europe/Berlin"):
        UpdateConfig(timezone=zone)


def test_quiet_hours_without_a_length_are_refused():
    with pytest.raises(ValidationError, match="begins when it ends; a whole day is 00:00-24:00"):
        UpdateConfig(quiet_hours=("22:00-22:00",))
