"""Messages that wait to be told: one file each, kept until every channel has heard of it.

A message is written before anybody is told, and its file is named after the event: written twice
it is one message, and after a kill the channels that were not told yet are told. A receiver may
hear of an event twice, with the same id, and never not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from contlearn.config import ChannelConfig
from contlearn.errors import UsageError
from contlearn.interfaces import Clock
from contlearn.notifications.channels import Delivery, deliver
from contlearn.notifications.messages import Message, is_wanted
from contlearn.workspace import write_json_atomic

__all__ = ["Outbox", "Waiting"]

# Seconds between tries, growing; the last one repeats until the message is too old.
# Source: Standard Webhooks specification, "Deliverability and reliability".
PAUSES: Final = (5, 60, 300, 1800, 7200, 18000, 36000)
_FORMAT: Final = 1


@dataclass(slots=True)
class Waiting:
    """A message and how far each channel is with it."""

    path: Path
    message: Message
    channels: dict[str, dict[str, Any]]


class Outbox:
    """The waiting messages of one workspace.

    Args:
        folder: state/outbox.
        root: The workspace.
        clock: The time.
    """

    def __init__(self, folder: Path, *, root: Path, clock: Clock) -> None:
        self.folder, self.root, self.clock = folder, root, clock
        self.sent = folder / "sent"

    def add(self, message: Message) -> bool:
        """Keep a message; False when it is known already.

        Raises:
            UsageError: When its id is no plain name.
            StorageError: When the disk refuses: then it was not added.
        """
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}", message.message_id) is None:
            raise UsageError(f"{message.message_id!r} is not a name for a message.", where="outbox")
        name = f"{message.message_id}.json"
        if (self.folder / name).exists() or (self.sent / name).exists():
            return False
        self.sent.mkdir(parents=True, exist_ok=True)
        self._write(Waiting(self.folder / name, message, {}))
        return True

    def waiting(self) -> list[Waiting]:
        """Give the messages that wait, the oldest first; damaged files are put aside."""
        found = list(self._read_all())
        return sorted(found, key=lambda waiting: (waiting.message.at, waiting.path.name))

    def count(self) -> int:
        """Count the messages that wait."""
        return sum(1 for _ in self.folder.glob("*.json"))

    def post(
        self, channels: Sequence[ChannelConfig], *, max_age_seconds: float, at_once: bool = False
    ) -> list[tuple[str, str, Delivery]]:
        """Tell what waits to whom it may concern and whose next try is due.

        Args:
            channels: Of the configuration.
            max_age_seconds: A message that is older is given up.
            at_once: Try everything now, whenever the next try would be due.
        Returns:
            (channel, message id, how it went) of each try.
        """
        tries: list[tuple[str, str, Delivery]] = []
        for waiting in self.waiting():
            now = self.clock.now()
            open_ones, changed = 0, False
            age = abs((now - waiting.message.at).total_seconds())
            for channel in channels:
                if not is_wanted(channel, waiting.message):
                    continue
                state = waiting.channels.setdefault(channel.name, {"tries": 0})
                if state.get("done"):
                    continue
                if not at_once and not _is_due(state, now):
                    open_ones += 1
                    continue
                delivery = deliver(channel, waiting.message, root=self.root, now=now.timestamp())
                tries.append((channel.name, waiting.message.message_id, delivery))
                changed = True
                if not _note(state, delivery, now, is_old=age > max_age_seconds):
                    open_ones += 1
                self._write(waiting)  # before the next channel: a kill repeats one at most
            if not open_ones:
                if not changed:
                    self._write(waiting)
                waiting.path.replace(self.sent / waiting.path.name)
        return tries

    def _write(self, waiting: Waiting) -> None:
        message = waiting.message
        write_json_atomic(
            waiting.path,
            {
                "format_version": _FORMAT,
                "id": message.message_id,
                "kind": message.kind,
                "at": message.at.isoformat(),
                "model": message.model,
                "workspace": message.workspace,
                "data": dict(message.data),
                "channels": waiting.channels,
            },
        )

    def _read_all(self) -> Iterator[Waiting]:
        for path in self.folder.glob("*.json"):
            try:
                value = json.loads(path.read_bytes())
                yield Waiting(
                    path,
                    Message(
                        message_id=value["id"],
                        kind=value["kind"],
                        at=datetime.fromisoformat(value["at"]),
                        model=value["model"],
                        workspace=value["workspace"],
                        data=value["data"],
                    ),
                    dict(value["channels"]),
                )
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError):
                path.replace(path.with_suffix(".damaged"))


def _is_due(state: dict[str, Any], now: datetime) -> bool:
    if "next" not in state:
        return True
    wait = (datetime.fromisoformat(state["next"]) - now).total_seconds()
    # Further away than any pause: the clock was set back.
    return wait <= 0 or wait > PAUSES[-1]


def _note(state: dict[str, Any], delivery: Delivery, now: datetime, *, is_old: bool) -> bool:
    """Write a try down; True when the channel is done with the message."""
    state["tries"] = int(state.get("tries", 0)) + 1
    state["said"] = delivery.said
    state["at"] = now.isoformat()
    if delivery.ok:
        state["done"] = "told"
    elif not delivery.again or is_old:
        state["done"] = "given up"
    else:
        pause = PAUSES[min(state["tries"], len(PAUSES)) - 1]
        state["next"] = (now + timedelta(seconds=pause)).isoformat()
    return "done" in state
