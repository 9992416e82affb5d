"""Run keys: whoever asks again for the same run is told how it ended, and nothing is run twice."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from sqlalchemy.engine import Connection

from contlearn import errors
from contlearn.catalog import Catalog
from contlearn.catalog.cycles import ENDED, PROMOTED_BY_HAND, CycleRow, find_cycle
from contlearn.catalog.rows import get, put
from contlearn.catalog.schema import meta
from contlearn.cycle.outcome import UpdateResult
from contlearn.errors import ContlearnError, UsageError
from contlearn.types import CycleOutcome, RuleOutcome

__all__ = ["check_run_key", "note_nothing", "recorded_result"]

_MOST_CHARACTERS: Final = 100
# Runs that found nothing to do have no cycle; so many of the newest are remembered.
_NOTHING: Final = "runs with nothing to do"
_MOST_RUNS: Final = 500


def check_run_key(run_key: str) -> None:
    """Check a name that a person or an orchestrator chose for a run.

    Raises:
        UsageError: When it is blank or too long.
    """
    if not run_key.strip() or len(run_key) > _MOST_CHARACTERS:
        raise UsageError(
            "The run key is empty." if not run_key.strip() else "The run key is too long.",
            where="--run-key",
            hint=f"Give 1 to {_MOST_CHARACTERS} characters, such as the orchestrator's run id.",
        )


def recorded_result(catalog: Catalog, run_key: str) -> UpdateResult | None:
    """Give how the run of a key ended; None when it has not, or never began."""
    with catalog.read() as connection:
        row = find_cycle(connection, run_key)
        nothing = _read(connection).get(run_key)
    if row is None:
        if nothing is None:
            return None
        return UpdateResult(
            cycle=None, outcome="nothing-to-do", message=nothing, run_key=run_key, repeated=True
        )
    if row.state not in (*ENDED, "awaiting-approval"):
        return None
    return _result_of(row, run_key)


def note_nothing(catalog: Catalog, run_key: str, message: str) -> None:
    """Remember that the run of a key found nothing to do."""
    with catalog.write() as connection:
        known = _read(connection)
        known[run_key] = message
        kept = dict(list(known.items())[-_MOST_RUNS:])
        put(connection, meta, {"key": _NOTHING, "value": json.dumps(kept, ensure_ascii=False)})


def _read(connection: Connection) -> dict[str, str]:
    row = get(connection, meta, _NOTHING)
    found: dict[str, str] = {} if row is None else json.loads(row.value)
    return found


def _result_of(row: CycleRow, run_key: str) -> UpdateResult:
    numbers: dict[str, Any] = row.numbers or {}
    error: ContlearnError | None = None
    if row.state == "failed":
        name = str(numbers.get("error_kind"))
        known = name in errors.__all__
        kind: type[ContlearnError] = getattr(errors, name) if known else ContlearnError
        error = kind(
            row.error or "The cycle failed.",
            hint="To try again, ask with another run key, or without one.",
        )
    return UpdateResult(
        cycle=row.cycle_id,
        outcome=_outcome_of(row),
        version=row.version,
        reasons=tuple(row.reasons or ()),
        metrics=row.metrics or {},
        message="This run key has had its cycle; nothing was run again.",
        error=error,
        trained_share=numbers.get("trained_share"),
        search=numbers.get("search"),
        run_key=run_key,
        repeated=True,
    )


def _outcome_of(row: CycleRow) -> CycleOutcome:
    """Give how the run itself ended, whatever was done by hand with its version since."""
    # Cycles of before say it in words only.
    in_words = str(row.error or "").startswith("promoted by hand")
    by_hand = in_words or PROMOTED_BY_HAND in (row.numbers or {})
    if row.state != "promoted" or not by_hand:
        return cast("CycleOutcome", row.state)
    outcomes = [RuleOutcome.from_json(reason) for reason in row.reasons or ()]
    if any(outcome.refuses for outcome in outcomes):
        return "refused"
    if any(outcome.is_not_worth for outcome in outcomes):
        return "kept"
    return "awaiting-approval" if row.promote else "not-promoted"
