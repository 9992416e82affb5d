"""Cycles: one row each, one transaction for each change of state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from contlearn.catalog.schema import cycles
from contlearn.types import CycleState, RuleOutcome

__all__ = [
    "ENDED",
    "PROMOTED_BY_HAND",
    "CycleRow",
    "change_cycle",
    "create_cycle",
    "find_cycle",
    "get_cycle",
    "last_cycle",
    "last_ended",
    "last_success",
    "list_cycles",
    "next_look",
    "unfinished_cycle",
    "waiting_cycle",
]

# In the numbers of a cycle whose challenger somebody promoted who is no cycle.
PROMOTED_BY_HAND: Final = "promoted_by_hand"
ENDED: Final = ("promoted", "refused", "kept", "not-promoted", "failed")
# What a run can come to; one whose challenger awaits approval has done its work.
_OVER: Final = (*ENDED, "awaiting-approval")


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRow:
    """A cycle as the catalog knows it."""

    seq: int
    cycle_id: str
    run_key: str | None
    trigger: str
    state: CycleState
    outcome: str | None
    strategy: str
    champion: int | None
    version: int | None
    experience: int
    promote: bool
    started_at: str
    ended_at: str | None
    attempts: int
    reasons: Any
    metrics: Any
    numbers: Any
    error: str | None

    @property
    def failure(self) -> str | None:
        """Say of what it failed; None for one that did not."""
        return self.error if self.outcome == "failed" else None

    @property
    def why(self) -> str | None:
        """Say why it ended so: of what it failed, what refused or kept it, who promoted it."""
        outcomes = [RuleOutcome.from_json(reason) for reason in self.reasons or ()]
        said = [one.message for one in outcomes if one.refuses]
        said = said or [one.message for one in outcomes if one.is_not_worth]
        return self.error or "; ".join(said) or None

    def to_json(self) -> dict[str, object]:
        """Give the cycle as `history --json` prints it."""
        return {
            "cycle": self.cycle_id,
            "trigger": self.trigger,
            "state": self.state,
            "outcome": self.outcome or self.state,
            "strategy": self.strategy,
            "champion": self.champion,
            "version": self.version,
            "experience": self.experience,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "reasons": self.reasons or [],
            "metrics": self.metrics or {},
            "numbers": self.numbers or {},
            "error": self.failure,
            "why": self.why,
        }


def _cycle(row: Row[Any] | None) -> CycleRow | None:
    if row is None:
        return None
    values = row._asdict()
    del values["progress"]  # a column of earlier contlearns
    return CycleRow(**values)


def create_cycle(
    connection: Connection,
    *,
    trigger: str,
    run_key: str | None,
    strategy: str,
    champion: int | None,
    experience: int,
    promote: bool,
    now: datetime,
) -> str | None:
    """Write a planned cycle down; None when its run key was used before.

    The id sorts by time and is unique: the moment and the number of the cycle.
    """
    if run_key is not None:
        taken = connection.execute(
            sa.select(cycles.c.cycle_id).where(cycles.c.run_key == run_key)
        ).first()
        if taken is not None:
            return None
    number = (connection.execute(sa.select(sa.func.max(cycles.c.seq))).scalar() or 0) + 1
    cycle_id = f"{now:%Y%m%d-%H%M%S}-{number:05d}"
    connection.execute(
        cycles.insert().values(
            cycle_id=cycle_id,
            run_key=run_key,
            trigger=trigger,
            state="planned",
            strategy=strategy,
            champion=champion,
            experience=experience,
            promote=promote,
            started_at=now.isoformat(),
            attempts=0,
        )
    )
    return cycle_id


def change_cycle(connection: Connection, cycle_id: str, **values: object) -> None:
    """Change some columns of a cycle; state changes are one transaction each."""
    connection.execute(
        cycles.update()
        .where(cycles.c.cycle_id == cycle_id)
        .values(cast("Mapping[str, Any]", values))
    )


def get_cycle(connection: Connection, cycle_id: str) -> CycleRow | None:
    """Give one cycle."""
    return _cycle(
        connection.execute(sa.select(cycles).where(cycles.c.cycle_id == cycle_id)).first()
    )


def find_cycle(connection: Connection, run_key: str) -> CycleRow | None:
    """Give the cycle that a run key started."""
    return _cycle(connection.execute(sa.select(cycles).where(cycles.c.run_key == run_key)).first())


def last_cycle(connection: Connection) -> CycleRow | None:
    """Give the newest cycle."""
    return _newest(connection)


def last_ended(connection: Connection) -> CycleRow | None:
    """Give the newest cycle that is over, whatever runs now."""
    return _newest(connection, cycles.c.state.in_(_OVER))


def last_success(connection: Connection) -> CycleRow | None:
    """Give the newest cycle that is over and did not fail; to refuse or keep is no failure."""
    return _newest(connection, cycles.c.state.in_(_OVER), cycles.c.state != "failed")


def _newest(connection: Connection, *which: sa.ColumnElement[bool]) -> CycleRow | None:
    query = sa.select(cycles).where(*which).order_by(cycles.c.seq.desc()).limit(1)
    return _cycle(connection.execute(query).first())


def unfinished_cycle(connection: Connection) -> CycleRow | None:
    """Give the cycle that was interrupted, if there is one."""
    query = sa.select(cycles).where(cycles.c.state.not_in(_OVER)).order_by(cycles.c.seq).limit(1)
    return _cycle(connection.execute(query).first())


def waiting_cycle(connection: Connection) -> CycleRow | None:
    """Give the cycle whose challenger awaits approval."""
    return _newest(connection, cycles.c.state == "awaiting-approval")


def next_look(connection: Connection, reset: int) -> int:
    """Say the how-manieth look at the best proven version the next cycle takes, from 1.

    Args:
        connection: To the catalog.
        reset: The journal's record since which looks are counted, 0 without one.
    """
    query = sa.select(cycles.c.numbers).order_by(cycles.c.seq.desc())
    for numbers in connection.execution_options(yield_per=50).execute(query).scalars():
        seen = (numbers or {}).get("anchor") or {}
        if "counts" in seen:  # compared to the end
            return int(seen["look"]) + bool(seen["counts"]) if seen["reset"] == reset else 1
    return 1


def list_cycles(connection: Connection, limit: int = 50) -> list[CycleRow]:
    """Give the newest cycles, newest first."""
    query = sa.select(cycles).order_by(cycles.c.seq.desc()).limit(limit)
    return [row for item in connection.execute(query) if (row := _cycle(item)) is not None]
