"""[update]: when an update starts, and when it must not."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from contlearn.config.base import Duration, Section

__all__ = ["DAYS", "UpdateConfig", "read_quiet"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d|24:00"
_QUIET = re.compile(
    rf"(?:(?P<days>[a-z]{{3}}(?:[-,][a-z]{{3}})*)\s+)?(?P<start>{_CLOCK})-(?P<end>{_CLOCK})"
)


def read_quiet(text: str) -> tuple[frozenset[int], int, int]:
    """Read "22:00-06:00" or "mon-fri 08:00-18:00": days of the beginning, minutes from, to.

    Example:
        >>> read_quiet("sat,sun 22:30-24:00") == (frozenset({5, 6}), 1350, 1440)
        True
    """
    match = _QUIET.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 22:00-06:00 or mon-fri 08:00-18:00")
    days: set[int] = set()
    for part in (match["days"] or "mon-sun").split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} in {text!r} is not a day such as mon, or mon-fri")
        start, end = DAYS.index(first), DAYS.index(last or first)
        days.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    if match["start"] == match["end"]:
        raise ValueError(f"{text!r} begins when it ends; a whole day is 00:00-24:00")
    hours, minutes = match["start"].split(":")
    until_hours, until_minutes = match["end"].split(":")
    return (
        frozenset(days),
        int(hours) * 60 + int(minutes),
        int(until_hours) * 60 + int(until_minutes),
    )


class UpdateConfig(Section):
    """[update]: when an update starts, and when it must not."""

    schedule: str = Field(
        "",
        description="When the daemon updates whatever has come, as a line of crontab(5) such as "
        '"0 3 * * *"; empty: never by the clock.',
    )
    timezone: str = Field(
        "UTC",
        description="The time zone of `schedule` and `quiet_hours`, by its name, such as "
        "Europe/Berlin.",
    )
    min_new_records: int = Field(
        500,
        ge=1,
        description="So many records that no update has tried yet start one.",
    )
    max_wait: Duration = Field(
        7 * 86400.0,
        description="An update starts when the oldest untried record has waited so long, in "
        "seconds or as 7d.",
    )
    min_new_label_records: int = Field(
        20,
        ge=0,
        description="So many records of a label that the champion does not know start an update; "
        "0: never.",
    )
    on_drift: bool = Field(
        True,
        description="Whether drift that monitoring sees starts an update.",
    )
    drift_looks: int = Field(
        2,
        ge=1,
        description="How many looks in a row must alarm before drift counts, for updates and for "
        "alerts.",
    )
    on_measured_drop: bool = Field(
        True,
        description="Whether an update starts when accuracy measured on feedback falls below what"
        " the version was promoted with, by more than `monitoring.accuracy_margin`.",
    )
    on_estimated_drop: bool = Field(
        True,
        description="The same for accuracy estimated from confidences, without labels.",
    )
    cooldown: Duration = Field(
        3600.0,
        description="After a cycle nothing starts by itself for so long, in seconds or as 1h.",
    )
    quiet_hours: tuple[str, ...] = Field(
        (),
        description='Times in which nothing starts by itself, such as "22:00-06:00" or "mon-fri '
        '08:00-18:00".',
    )
    max_minutes_per_day: float = Field(
        0.0,
        ge=0.0,
        description="Minutes of updates on one day of `timezone` after which nothing more starts "
        "by itself; 0: no limit.",
    )
    heartbeat_seconds: float = Field(
        5.0,
        gt=0.0,
        description="How often, in seconds, a running daemon or update says that it is alive.",
    )
    lease_seconds: float = Field(
        60.0,
        gt=1.0,
        description="After so many seconds without a sign of life another process takes over; at "
        "least twice `heartbeat_seconds`.",
    )

    @model_validator(mode="after")
    def _times_can_be_read(self) -> UpdateConfig:
        for quiet in self.quiet_hours:
            read_quiet(quiet)
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("lease_seconds must be at least twice heartbeat_seconds")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"the time zone {self.timezone!r} is not known; write one such as Europe/Berlin"
            ) from None
        return self
