"""[daemon]: the long-running process, and what it allows an update."""

from __future__ import annotations

from pydantic import Field

from contlearn.config.base import Duration, Section, Size

__all__ = ["DaemonConfig"]


class DaemonConfig(Section):
    """[daemon]: the long-running process, and what it allows an update."""

    scan_seconds: float = Field(
        2.0,
        gt=0.0,
        description="Seconds between two looks into the inbox, whatever the file system tells.",
    )
    grace_seconds: float = Field(
        30.0,
        ge=0.0,
        description="Seconds that a running update has to save its state when the daemon is told "
        "to end.",
    )
    retry_seconds: Duration = Field(
        60.0,
        description="Pause after a failed update, in seconds or as 1m; it doubles with each "
        "further failure.",
    )
    max_retry_seconds: Duration = Field(
        3600.0,
        description="The longest pause between two tries, in seconds or as 1h.",
    )
    alert_failures: int = Field(
        3, ge=1, description="So many failures one after the other send an alert."
    )
    poison_failures: int = Field(
        3,
        ge=2,
        description="Records that took part in so many failed cycles are set apart and tried in "
        "parts.",
    )
    poison_divisions: int = Field(
        16,
        ge=0,
        description="How often records that make updates fail are halved to find the guilty ones;"
        " 0: all of them are held at once.",
    )
    memory_bytes: Size = Field(
        0,
        description="Memory that an update may use, in bytes or as 8GB; one that uses more is "
        "ended. 0: no limit.",
    )
    update_time: Duration = Field(
        12 * 3600.0,
        description="The longest that an update may take, in seconds or as 12h.",
    )
    stuck_time: Duration = Field(
        3600.0,
        description="An update that reports nothing for so long is ended, in seconds or as 1h.",
    )
    nice: int = Field(
        10,
        ge=0,
        le=19,
        description="How far an update steps back behind other processes: 0 not at all, 19 as far"
        " as it goes.",
    )
    threads: int = Field(
        0, ge=0, description="Threads that an update computes with; 0: one for each core."
    )
    host_lock: str = Field(
        "",
        description="The file by which daemons of one host take turns with their updates; empty: "
        "one in the temporary folder, for each user.",
    )
    end_stalled: bool = Field(
        True,
        description="Whether a daemon that stands by ends another on this machine that holds the "
        "database, stands still and has let its lease run out.",
    )
    log_file: str = Field(
        "", description="A file for the log instead of standard error; it is rotated."
    )
    log_bytes: Size = Field(
        10_000_000, description="Size at which `log_file` is rotated, in bytes or as 10MB."
    )
    log_files: int = Field(5, ge=1, description="How many rotated files of the log are kept.")
