"""[retention]: what is kept when time goes by, and how much disk it may take."""

from __future__ import annotations

from pydantic import Field

from contlearn.config.base import Section, Size

__all__ = ["RetentionConfig"]


class RetentionConfig(Section):
    """[retention]: what is kept when time goes by, and how much disk it may take."""

    versions: int = Field(
        10,
        ge=1,
        description="How many of the newest versions are kept, besides champion, former champion,"
        " those with an alias and those that a server uses.",
    )
    cycles: int = Field(
        50,
        ge=1,
        description="How many ended cycles keep their work folder and log; their rows in the "
        "catalog stay.",
    )
    notifications: int = Field(
        500, ge=1, description="How many sent notifications are kept to look at."
    )
    log_bytes: Size = Field(
        5_000_000,
        description="Size at which a log of updates, intake or probation is put aside, in bytes "
        "or as 5MB.",
    )
    workspace_bytes: Size = Field(
        0,
        description="What the whole workspace may take on disk, in bytes or as 20GB: an update "
        "that would pass it does not start; 0: no limit.",
    )
    min_free_bytes: Size = Field(
        200_000_000,
        description="What an update must leave free on the disk, in bytes or as 200MB.",
    )
    check_space: bool = Field(
        True,
        description="Whether an update is refused before it starts when it would not fit on the "
        "disk.",
    )
