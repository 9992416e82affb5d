"""The best proven version of a lineage: what small losses are counted from.

It stands in the manifest of each version, so that going back to one goes back to what was best
then. A person who knows better lets the count begin anew at the champion; that is a record of the
journal, with the reason.
"""

from __future__ import annotations

from contlearn.errors import RegistryError, UsageError
from contlearn.papers.journal import JournalRecord
from contlearn.registry.versions import Registry

__all__ = ["anchor_of", "last_reset", "reset_anchor"]

_EVENT = "anchor"


def anchor_of(registry: Registry, version: int) -> int:
    """Give the best proven version once this one is champion; itself where nothing else is known.

    Raises:
        RegistryError: When the version is missing or its manifest damaged.
    """
    if any(record.version == version for record in registry.journal.linked(_EVENT)):
        return version
    anchor = registry.get(version).manifest.lineage.anchor
    return version if anchor is None else anchor


def last_reset(registry: Registry) -> JournalRecord | None:
    """Give the newest record of somebody who let the count begin anew."""
    return next(registry.journal.linked(_EVENT), None)


def reset_anchor(
    registry: Registry, *, actor: str, reason: str, dry_run: bool = False
) -> tuple[int, int]:
    """Let the champion be the best version from now on, whatever was better before it.

    Returns:
        The champion, and the version that was the best proven one until now.
    Raises:
        UsageError: When no reason is given.
        RegistryError: When there is no champion.
        WorkspaceLocked: When another process is at work.
    """
    if not reason.strip():
        raise UsageError(
            "Forgetting what was better needs a reason.",
            where="--reason",
            hint='Say why, for the journal: contlearn anchor reset --reason "…"',
        )
    with registry.lock("resetting the best proven version"):
        registry.adopt()
        champion = registry.champion()
        if champion is None:
            raise RegistryError(
                "There is no champion yet, so nothing is the best.",
                where=str(registry.journal.path),
                hint="`contlearn update` makes the first version.",
            )
        before = anchor_of(registry, champion)
        if not dry_run:
            registry.journal.append(
                _EVENT, version=champion, previous=before, actor=actor, reason=reason.strip()
            )
    return champion, before
