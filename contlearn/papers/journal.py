"""A line of `versions/events.jsonl`: one thing that happened to versions, and who wanted it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["CHANGES", "RARE", "JournalRecord"]

# The events that changed the champion.
CHANGES: Final = ("promote", "rollback")
# Asked for often, and written seldom or never: every record says where the newest of them is.
RARE: Final = ("alias", "anchor", "delete")

_KINDS: Final[Mapping[str, type]] = {
    "number": int,
    "at": str,
    "event": str,
    "version": int,
    "epoch": int,
    "aliases": dict,
}
# What a record of an event cannot be without, besides the first three.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("register", "delete", "anchor"), ("version",)),
    **dict.fromkeys(("intent", "abandon", *CHANGES), ("version", "epoch")),
    "alias": ("aliases",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRecord:
    """What one line says; `source` is all that was read, keys of other versions among them.

    Args:
        number: Its place in the journal, from 1.
        at: When it was written.
        event: `register`, `intent`, `promote`, `rollback`, `abandon`, `alias`, `anchor`, `delete`,
            or what somebody noted.
        version: What it is about; 0 where it names none.
        epoch: How many changes of the champion there were with this one; 0 where it is none.
        previous: The champion, the alias's version or the best proven one before; None for none.
        below: The record of the change that a rollback goes back to from here.
        kind: Which change an intent means to make.
        since: From when on the version was served; a change that was mended has a later `at`.
        actor: Who wanted it.
        origin: Whether a change came by `hand`, from a `cycle` or from the `daemon`; records of
            before do not say.
        reason: Why they wanted it.
        why: Why an intent was abandoned.
        force: Whether it went past the gate.
        alias: The name that was set or deleted.
        aliases: All aliases from then on.
        cycle: The cycle that made a registered version.
        manifest: SHA-256 of a registered version's manifest.
        links: Where in the file the newest record of each rare event before this one stands; of a
            journal that was begun without links it is empty.
        prev: SHA-256 of the line before.
    """

    number: int
    at: str
    event: str
    version: int = 0
    epoch: int = 0
    previous: int | None = None
    below: int | None = None
    kind: str = ""
    since: str = ""
    actor: str | None = None
    origin: str = ""
    reason: str | None = None
    why: str | None = None
    force: bool = False
    alias: str | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    cycle: str | None = None
    manifest: str | None = None
    links: Mapping[str, int | None] = field(default_factory=dict)
    prev: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_line(cls, line: bytes) -> JournalRecord:
        """Read a line.

        Raises:
            ValueError: When it is damaged; says what it lacks.
        """
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ValueError("is not JSON") from error
        return cls.from_json(value)

    @classmethod
    def from_json(cls, value: Any) -> JournalRecord:
        """Read the object of a line, of this contlearn or of an earlier one.

        Raises:
            ValueError: When it is damaged; says what it lacks.
        """
        if not isinstance(value, dict):
            raise ValueError("is no JSON object")
        needed = ("number", "at", "event", *_NEEDED.get(str(value.get("event")), ()))
        missing = [name for name in needed if not isinstance(value.get(name), _KINDS[name])]
        if missing:
            raise ValueError(f"has no {' and no '.join(missing)}")
        version = value.get("version")
        return cls(
            number=value["number"],
            at=value["at"],
            event=value["event"],
            # Somebody's own note may call something else a version.
            version=version if isinstance(version, int) else 0,
            epoch=value.get("epoch") or 0,
            previous=value.get("previous"),
            below=value.get("below"),
            kind=value.get("kind") or "",
            since=value.get("since") or value["at"],
            actor=value.get("actor"),
            origin=value.get("origin") or "",
            reason=value.get("reason"),
            why=value.get("why"),
            force=bool(value.get("force")),
            alias=value.get("alias"),
            aliases=value.get("aliases") or {},
            cycle=value.get("cycle"),
            manifest=value.get("manifest"),
            links={rare: value[f"last_{rare}"] for rare in RARE if f"last_{rare}" in value},
            prev=value.get("prev"),
            source=value,
        )

    def to_json(self) -> dict[str, Any]:
        """Give the record as it was read."""
        return dict(self.source)
