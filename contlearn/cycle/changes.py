"""Promotion and rollback, for whoever asks: a person, a program, a cycle, a probation.

What a killed process left half done is mended first, then the registry is changed, and the catalog
follows. There is no other way to another champion, so that all of them do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from contlearn.catalog.cycles import PROMOTED_BY_HAND, change_cycle
from contlearn.catalog.records import settle_learnt, take_back
from contlearn.catalog.rows import get, put
from contlearn.catalog.schema import cycles, meta
from contlearn.context import Context
from contlearn.errors import ContlearnError, StorageError, UsageError
from contlearn.pages.version_page import show_changes
from contlearn.papers.decision import read_decision
from contlearn.registry.aliases import resolve_version
from contlearn.registry.origin import Origin
from contlearn.registry.promotion import promote, recover, rollback

__all__ = ["Change", "mend", "promote_version", "roll_back", "synchronise"]

_BY_HAND: Final = "by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The champion before and after, and how many records are open or held again."""

    champion: int | None
    previous: int | None
    records_released: int = 0
    records_held: int = 0
    dry_run: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Give the fields of `promote --json` and `rollback --json`."""
        return {
            "champion": self.champion,
            "previous": self.previous,
            "records_released": self.records_released,
            "records_held": self.records_held,
            "dry_run": self.dry_run,
            "notes": list(self.notes),
        }


def promote_version(
    context: Context,
    version: int | str,
    *,
    actor: str | None = None,
    reason: str = "",
    origin: Origin = "hand",
    force: bool = False,
    dry_run: bool = False,
    seen: int | None = None,
) -> Change:
    """Make a version (number or alias) champion and settle the records it has learnt.

    Args:
        context: The opened workspace.
        version: Number or alias.
        actor: Who does it; the user of this process if left out.
        reason: Why; "by hand" if left out.
        origin: Whether a person, a cycle or the daemon does it.
        force: Also a version that the gate refused; asks for a reason.
        dry_run: Check everything, change nothing.
        seen: The registry's epoch when it was decided, for a caller that waited since.

    Raises:
        UsageError: When `force` is set without a reason.
        RegistryError: When the version is missing, damaged, or was refused and `force` is not set.
        ChampionChanged: When somebody else was faster.
        WorkspaceLocked: When another process is promoting.
    """
    if force and not reason.strip():
        raise UsageError(
            "Promoting past the gate needs a reason.",
            where="--reason",
            hint=f'Say why, for the journal: contlearn promote {version} --force --reason "…"',
        )
    actor, reason = actor or context.actor, reason.strip() or _BY_HAND
    seen = _mend_first(context, seen, dry_run=dry_run)
    before = context.registry.champion()
    number = resolve_version(context.registry, version)
    promote(
        context.registry,
        number,
        actor=actor,
        reason=reason,
        origin=origin,
        force=force,
        dry_run=dry_run,
        seen=seen,
    )
    notes = _notes(context, number, before)
    if dry_run:
        return Change(champion=before, previous=before, dry_run=True, notes=notes)
    released, held = synchronise(context, before, hold=False, reason=reason)
    if number != before:
        context.emit(
            "promoted",
            version=number,
            previous=before,
            reason=reason,
            actor=actor,
            records_released=released,
            records_held=held,
        )
    return Change(
        champion=number,
        previous=before,
        records_released=released,
        records_held=held,
        notes=notes,
    )


def _notes(context: Context, version: int, before: int | None) -> tuple[str, ...]:
    """Say what the gate's verdict on a version does not cover."""
    try:
        decision = read_decision(context.registry.get(version).path)
    except StorageError:
        return ()
    compared = decision.champion
    if before in (None, version, compared):
        return ()
    return (
        f"Version {version} was compared with "
        + ("no champion" if compared is None else f"version {compared}")
        + f", not with version {before}, which was the champion until now.",
    )


def roll_back(
    context: Context,
    *,
    to: int | str | None = None,
    hold: bool = False,
    actor: str | None = None,
    reason: str = "",
    origin: Origin = "hand",
    dry_run: bool = False,
    seen: int | None = None,
) -> Change:
    """Go back to the former champion; a second rollback goes one promotion further back.

    The records learnt since are pending again, or held with `hold`. The other arguments are as in
    `promote_version`: of two rollbacks at once one goes back, and not both.

    Raises:
        RegistryError: When there is nothing to go back to.
        ChampionChanged: When somebody else was faster.
        WorkspaceLocked: When another process is promoting.
    """
    actor, reason = actor or context.actor, reason.strip() or _BY_HAND
    seen = _mend_first(context, seen, dry_run=dry_run)
    before = context.registry.champion()
    if before is None:
        # The pointer is lost, and will be written again from the journal.
        lost = context.registry.last_change()
        before = None if lost is None else lost.version
    number = None if to is None else resolve_version(context.registry, to)
    why = f"rolled back from version {before}: {reason}"
    if not dry_run:
        # Should this process die between the two halves, `mend` holds the records all the same;
        # what a rollback that never happened wanted is forgotten.
        with context.catalog.write() as connection:
            _remember(connection, "hold", why if hold else "")
    try:
        target = rollback(
            context.registry,
            to=number,
            actor=actor,
            reason=reason,
            origin=origin,
            dry_run=dry_run,
            seen=seen,
        )
    except ContlearnError:
        if hold and not dry_run:
            with context.catalog.write() as connection:
                _remember(connection, "hold", "")
        raise
    if dry_run:
        return Change(champion=target.version, previous=before, dry_run=True)
    released, held = synchronise(context, before, hold=hold, reason=why)
    context.emit(
        "rolled-back",
        version=target.version,
        previous=before,
        reason=reason,
        actor=actor,
        records_released=released,
        records_held=held,
    )
    return Change(
        champion=target.version, previous=before, records_released=released, records_held=held
    )


def mend(context: Context) -> list[str]:
    """Finish what a killed process left half done: the registry, then the catalog.

    Returns:
        What was done, in words; nothing when all was well.
    """
    actions = list(recover(context.registry))
    remembered, hold = _recall(context, "champion"), _recall(context, "hold")
    before = int(remembered) if remembered else None
    if before != context.registry.champion():
        last = context.registry.last_change()
        if last is None or last.event != "rollback":
            hold = ""  # of a rollback that was killed before it happened
        reason = hold or "mended after an interruption"
        synchronise(context, before, hold=bool(hold), reason=reason)
        actions.append("the catalog follows the champion again")
    for action in actions:
        context.emit("recovered", action=str(action))
    return [str(action) for action in actions]


def _mend_first(context: Context, seen: int | None, *, dry_run: bool) -> int:
    """Mend, and give the registry's epoch as the caller saw it: mending may wait for another
    process, and what that one changes was not seen by whoever decided.
    """
    epoch = context.registry.epoch() if seen is None else seen
    if not dry_run:
        mend(context)
    return epoch


def synchronise(
    context: Context, before: int | None, *, hold: bool, reason: str
) -> tuple[int, int]:
    """Make the records' states follow the champion's lineage.

    Returns:
        How many records are pending again, how many are held.
    """
    champion = context.registry.champion()
    new, old = _experiences(context, champion), _experiences(context, before)
    with context.catalog.write() as connection:
        promoted = connection.execute(
            sa.select(cycles.c.cycle_id).where(cycles.c.state == "promoted")
        ).scalars()
        gone = [cycle for cycle in {*promoted, *old} if cycle not in new]
        changed = take_back(connection, gone, hold=hold, reason=reason)
        for cycle in new:
            if cycle not in old:
                settle_learnt(connection, cycle)
        # A challenger that was promoted by hand is no longer waiting, refused, kept or left aside.
        left = sa.select(cycles.c.cycle_id, cycles.c.ended_at, cycles.c.numbers).where(
            cycles.c.version == champion,
            cycles.c.state.in_(("awaiting-approval", "not-promoted", "refused", "kept")),
        )
        for row in connection.execute(left).all():
            change_cycle(
                connection,
                row.cycle_id,
                state="promoted",
                outcome="promoted",
                # When the run ended stays: its seconds are not those until somebody decided.
                ended_at=row.ended_at or context.clock.now().isoformat(),
                error=f"promoted by hand: {reason}",
                numbers={**(row.numbers or {}), PROMOTED_BY_HAND: True},
            )
        _remember(connection, "champion", "" if champion is None else str(champion))
        _remember(connection, "hold", "")
    show_changes(context, (before, champion))
    return (0, changed) if hold else (changed, 0)


def _experiences(context: Context, version: int | None) -> list[str]:
    if version is None:
        return []
    return list(context.registry.get(version).manifest.lineage.experiences)


def _recall(context: Context, key: str) -> str:
    with context.catalog.read() as connection:
        row = get(connection, meta, key)
    return "" if row is None else str(row.value)


def _remember(connection: sa.engine.Connection, key: str, value: str) -> None:
    put(connection, meta, {"key": key, "value": value})
