"""[notifications]: who is told of promotions, refusals, rollbacks and failures."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from contlearn.config.base import Duration, Section

__all__ = ["ChannelConfig", "NotificationsConfig"]


class ChannelConfig(Section):
    """[[notifications.channels]]: one way to tell somebody.

    What is secret is named as a file (of one line, relative to the workspace), because the
    configuration is shown, logged and kept with each version.
    """

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$",
        description="What the channel is called in logs, metrics and `contlearn notify test`.",
    )
    kind: Literal["webhook", "slack", "email", "command"] = Field(
        description="How it tells: webhook (signed by Standard Webhooks), slack, email, or a "
        "command.",
    )
    url: str = Field("", description="Where a webhook or slack message goes, if it is no secret.")
    url_file: str = Field("", description="The file that holds the address, if it is a secret.")
    secret_file: str = Field(
        "",
        description="The file with the secret that signs webhooks, one line; two while it is "
        "exchanged.",
    )
    host: str = Field("", description="The mail server.")
    port: int = Field(25, ge=1, le=65535, description="The mail server's port.")
    security: Literal["none", "starttls", "tls"] = Field(
        "none", description="How the connection to the mail server is protected."
    )
    username: str = Field("", description="The name at the mail server; empty: no log-in.")
    password_file: str = Field("", description="The file with the password at the mail server.")
    sender: str = Field("", description="The address that mails come from.")
    to: tuple[str, ...] = Field((), description="The addresses that mails go to.")
    command: tuple[str, ...] = Field(
        (),
        description="A program with its arguments; it gets the event as JSON on standard input, "
        "without a shell.",
    )
    events: tuple[str, ...] = Field(
        ("*",),
        description='Which events are told: names such as "promoted", or patterns such as "*".',
    )
    title: str = Field(
        "",
        description="The title of a message, with $model, $kind, $version, $reason …; empty: one "
        "of ours.",
    )
    text: str = Field("", description="The text of a message, in the same way.")
    timeout: Duration = Field(15.0, description="The longest that telling may take, in seconds.")

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
    max_age: Duration = Field(
        3 * 86400.0,
        description="A message that could not be told for so long is given up, in seconds or as "
        "3d.",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> NotificationsConfig:
        names = [channel.name for channel in self.channels]
        if len(set(names)) != len(names):
            raise ValueError("two channels have the same name")
        return self
