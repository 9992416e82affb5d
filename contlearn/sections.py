"""Sections of the configuration: the data that come in, and running unattended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from contlearn.interfaces import FieldNames

__all__ = [
    "ChannelConfig",
    "DaemonConfig",
    "DataConfig",
    "Duration",
    "LimitsConfig",
    "NotificationsConfig",
    "ProbationConfig",
    "RetentionConfig",
    "Section",
    "Size",
    "SourceConfig",
    "UpdateConfig",
    "parse_duration",
    "parse_size",
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d|24:00"
_QUIET = re.compile(
    rf"(?:(?P<days>[a-z]{{3}}(?:[-,][a-z]{{3}})*)\s+)?(?P<start>{_CLOCK})-(?P<end>{_CLOCK})"
)


def parse_duration(value: object) -> float:
    """Turn "90s", "5m", "1h", "7d" or a number of seconds into seconds.

    Example:
        >>> parse_duration("1h")
        3600.0
    """
    if isinstance(value, bool):
        raise ValueError("expected a duration such as 90s, 5m, 1h or 7d")
    if isinstance(value, int | float):
        seconds = float(value)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", str(value))
        if match is None:
            raise ValueError("expected a duration such as 90s, 5m, 1h or 7d")
        seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    if seconds < 0:
        raise ValueError("a duration cannot be negative")
    return seconds


def parse_size(value: object) -> int:
    """Turn "500MB", "2.5 GB" or a number of bytes into bytes, in powers of ten.

    Example:
        >>> parse_size("1.5 GB")
        1500000000
    """
    if isinstance(value, bool):
        raise ValueError("expected a size such as 500MB or 2GB")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", str(value).lower())
    if match is None:
        raise ValueError("expected a size such as 500MB or 2GB")
    return int(float(match[1]) * _BYTES[match[2]])


Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]


class Section(BaseModel):
    """A part of the configuration; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


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

    schedule: str = ""
    timezone: str = "UTC"
    min_new_records: int = Field(500, ge=1)
    max_wait: Duration = 7 * 86400.0
    min_new_label_records: int = Field(20, ge=0)
    on_drift: bool = True
    drift_looks: int = Field(2, ge=1)
    on_measured_drop: bool = True
    on_estimated_drop: bool = True
    cooldown: Duration = 3600.0
    quiet_hours: tuple[str, ...] = ()
    max_minutes_per_day: float = Field(0.0, ge=0.0)
    heartbeat_seconds: float = Field(5.0, gt=0.0)
    lease_seconds: float = Field(60.0, gt=1.0)

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


class RetentionConfig(Section):
    """[retention]: what is kept when time goes by, and how much disk it may take."""

    versions: int = Field(10, ge=1)
    cycles: int = Field(50, ge=1)
    notifications: int = Field(500, ge=1)
    log_bytes: Size = 5_000_000
    workspace_bytes: Size = 0
    min_free_bytes: Size = 200_000_000
    check_space: bool = True


class DaemonConfig(Section):
    """[daemon]: the long-running process, and what it allows an update."""

    scan_seconds: float = Field(2.0, gt=0.0)
    grace_seconds: float = Field(30.0, ge=0.0)
    retry_seconds: Duration = 60.0
    max_retry_seconds: Duration = 3600.0
    alert_failures: int = Field(3, ge=1)
    poison_failures: int = Field(3, ge=2)
    poison_divisions: int = Field(16, ge=0)
    memory_bytes: Size = 0
    update_time: Duration = 12 * 3600.0
    stuck_time: Duration = 3600.0
    nice: int = Field(10, ge=0, le=19)
    threads: int = Field(0, ge=0)
    host_lock: str = ""
    end_stalled: bool = True
    log_file: str = ""
    log_bytes: Size = 10_000_000
    log_files: int = Field(5, ge=1)


class ProbationConfig(Section):
    """[probation]: how a new champion is watched, and what takes it back by itself."""

    window: Duration = 1800.0
    server: str = ""
    min_requests: int = Field(200, ge=1)
    max_error_increase: float = Field(0.02, gt=0.0, lt=1.0)
    max_latency_ratio: float = Field(2.0, gt=1.0)
    min_latency_increase: Duration = 0.05
    min_labels: int = Field(30, ge=5)
    max_flips: float = Field(0.0, ge=0.0, lt=1.0)
    confidence: float = Field(0.99, gt=0.5, lt=1.0)
    check_interval: Duration = 30.0


class LimitsConfig(Section):
    """[data.limits]: bounds on what a file may hold."""

    line_bytes: int = Field(1_000_000, ge=1_000)
    text_characters: int = Field(20_000, ge=1)
    nesting: int = Field(32, ge=2)
    unpacked_bytes: int = Field(4_000_000_000, ge=1_000)
    unpacked_ratio: float = Field(2_000.0, ge=2.0)
    rows: int = Field(20_000_000, ge=1)
    words: int = Field(5_000, ge=1)
    labels: int = Field(10_000, ge=2)


class DataConfig(Section):
    """[data]: the fields of a row and the rules of intake."""

    text: str = "text"
    label: str = "label"
    tokens: str = "tokens"
    tags: str = "tags"
    columns: tuple[str, ...] = ()
    group: str = ""
    weight: str = ""
    timestamp: str = ""
    annotator: str = ""
    labels: tuple[str, ...] = ()
    allow_new_labels: bool = False
    label_aliases: Mapping[str, str] = {}
    label_descriptions: Mapping[str, str] = {}
    unlabelled: str = "unlabelled"
    on_conflict: Literal["quarantine", "newest", "all"] = "quarantine"
    held_out_ratio: float = Field(0.1, gt=0.0, lt=1.0)
    held_out_files: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    split_seed: int = Field(17, ge=0, lt=2**63)
    near_duplicates: bool = True
    near_duplicate_similarity: float = Field(0.8, gt=0.5, lt=1.0)
    near_duplicate_reserve: int = Field(50_000, ge=0)
    rest_seconds: float = Field(2.0, ge=0.0)
    limits: LimitsConfig = LimitsConfig()

    def field_names(self) -> FieldNames:
        """Give the names of the fields as tasks want them."""
        return FieldNames(text=self.text, label=self.label, tokens=self.tokens, tags=self.tags)


class ChannelConfig(Section):
    """[[notifications.channels]]: one way to tell somebody.

    What is secret is named as a file (of one line, relative to the workspace), because the
    configuration is shown, logged and kept with each version.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")
    kind: Literal["webhook", "slack", "email", "command"]
    url: str = ""
    url_file: str = ""
    secret_file: str = ""
    host: str = ""
    port: int = Field(25, ge=1, le=65535)
    security: Literal["none", "starttls", "tls"] = "none"
    username: str = ""
    password_file: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    events: tuple[str, ...] = ("*",)
    title: str = ""
    text: str = ""
    timeout: Duration = 15.0

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> ChannelConfig:
        needed: dict[str, tuple[str, ...]] = {
            "webhook": (),
            "slack": (),
            "email": ("host", "sender", "to"),
            "command": ("command",),
        }
        missing = [key for key in needed[self.kind] if not getattr(self, key)]
        if missing:
            raise ValueError(f"the {self.kind} channel {self.name!r} needs {', '.join(missing)}")
        if self.url and not re.match(r"https?://[^/\s]+", self.url):
            raise ValueError(f"the url of {self.name!r} must begin with http:// or https://")
        if self.kind in ("webhook", "slack") and bool(self.url) == bool(self.url_file):
            raise ValueError(f"the channel {self.name!r} needs either url or url_file")
        return self


class NotificationsConfig(Section):
    """[notifications]: who is told of promotions, refusals, rollbacks and failures."""

    channels: tuple[ChannelConfig, ...] = ()
    max_age: Duration = 3 * 86400.0

    @model_validator(mode="after")
    def _names_are_unique(self) -> NotificationsConfig:
        names = [channel.name for channel in self.channels]
        if len(set(names)) != len(names):
            raise ValueError("two channels have the same name")
        return self


class SourceConfig(Section):
    """[[sources]]: rows that are fetched: files behind an address, a hub data set, a SQL query.

    `${NAME}` in `url` stands for a variable of the environment, so that no secret is in the file.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    kind: Literal["files", "hub", "sql"]
    every: Duration = 3600.0
    held_out: bool = False
    url: str = ""
    format: str = ""
    options: Mapping[str, Any] = {}
    dataset: str = ""
    subset: str = ""
    split: str = "train"
    revision: str = ""
    query: str = ""
    cursor: str = ""
    start: datetime | date | int | float | str | None = None
    max_rows: int = Field(1_000_000, ge=1)
    columns: Mapping[str, str] = {}
    label_names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> SourceConfig:
        needed = {"files": ("url",), "hub": ("dataset",), "sql": ("url", "query")}[self.kind]
        for key in needed:
            if not getattr(self, key):
                raise ValueError(f"a source of kind {self.kind} needs {key}")
        foreign = {
            "files": ("dataset", "subset", "revision", "query", "cursor", "start"),
            "hub": ("url", "query", "cursor", "start"),
            "sql": ("dataset", "subset", "revision", "format", "options"),
        }[self.kind]
        for key in foreign:
            if getattr(self, key):
                raise ValueError(f"{key} does not belong to a source of kind {self.kind}")
        if self.cursor and (":cursor" not in self.query or self.start is None):
            raise ValueError(
                "a cursor needs start (the value before the first row) and :cursor in the query, "
                "such as: WHERE id > :cursor ORDER BY id"
            )
        if len(set(self.columns.values())) != len(self.columns):
            raise ValueError("columns gives two columns one name")
        return self
