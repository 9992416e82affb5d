"""What is told: kinds of events, and the words for people."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from contlearn.config import ChannelConfig

__all__ = ["KINDS", "Message", "is_wanted", "render"]

# Kind → title and text. `$name` is a field of the event's data, or model, workspace, kind, time.
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "promoted": (
        "$model: version $version is served",
        "Version $version took over from version $previous. $reason",
    ),
    "rolled-back": (
        "$model: rolled back to version $version",
        "Version $previous is no longer served; version $version is again. $reason",
    ),
    "refused": (
        "$model: a challenger was refused",
        "The cycle $cycle ($trigger) was refused by the gate. $reason",
    ),
    # Nothing is wrong and nobody need do anything: whoever wants alarms only leaves it out.
    "kept": (
        "$model: version $previous stays, an update was not worth the change",
        "The records of cycle $cycle ($trigger) are learnt with what comes next. $reason",
    ),
    "awaiting-approval": (
        "$model: version $version awaits approval",
        "The cycle $cycle passed the gate. Approve it with `contlearn promote $version`.",
    ),
    "not-promoted": ("$model: a challenger was left aside", "The cycle $cycle ended. $reason"),
    "failed": ("$model: an update failed", "The cycle $cycle ($trigger) failed. $reason"),
    "alert": ("$model: $subject", "$reason"),
    "test": ("$model: a test", "This is a test of the channel $channel. Nothing happened."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something that happened. The same id is the same event, however often it is told.

    Args:
        message_id: Names the event; letters, digits, dots and dashes.
        kind: One of `KINDS`.
        at: When.
        model: The model's name.
        workspace: The folder.
        data: Plain values; never a text of a user.
    """

    message_id: str
    kind: str
    at: datetime
    model: str
    workspace: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Give the body of a webhook: type, timestamp, data.

        Source: Standard Webhooks specification, "Payload structure".
        """
        return {
            "type": f"contlearn.{self.kind}",
            "timestamp": self.at.isoformat(),
            "data": {"model": self.model, "workspace": self.workspace, **self.data},
        }


def is_wanted(channel: ChannelConfig, message: Message) -> bool:
    """Say whether a channel wants to hear of it; patterns such as "alert" or "roll*"."""
    return message.kind == "test" or any(fnmatchcase(message.kind, p) for p in channel.events)


def render(channel: ChannelConfig, message: Message) -> tuple[str, str]:
    """Write title and text, by the channel's own templates where it has them."""
    title, text = KINDS.get(message.kind, ("$model: $kind", "$reason"))
    values = {
        **{key: _shown(value) for key, value in message.data.items()},
        "model": message.model,
        "workspace": message.workspace,
        "kind": message.kind,
        "time": message.at.isoformat(timespec="seconds"),
        "channel": channel.name,
    }
    filled = [
        _fill(template, values) for template in (channel.title or title, channel.text or text)
    ]
    # A title is a header of a mail and must stay one line, whatever a reason holds.
    return " ".join(filled[0].split())[:200], filled[1].strip()


def _fill(template: str, values: Mapping[str, str]) -> str:
    names = set(re.findall(r"\$\{?([A-Za-z_]\w*)", template))
    return string.Template(template).safe_substitute({**dict.fromkeys(names, "–"), **values})


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
