"""The history of a model as plain values: what the overview page shows, from catalog and files.

Neither numpy nor pyarrow is loaded, so that the daemon can make its live page itself.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from contlearn.catalog.counting import counts
from contlearn.catalog.cycles import list_cycles
from contlearn.catalog.schema import records
from contlearn.context import Context
from contlearn.cycle.disk import folder_bytes
from contlearn.errors import ContlearnError
from contlearn.monitoring.quarantine import QuarantineTally
from contlearn.monitoring.signals import read_looks, read_signals
from contlearn.operations.status import read_status
from contlearn.papers.decision import read_decision
from contlearn.papers.journal import JournalRecord
from contlearn.papers.report import Matrix, read_report

__all__ = ["read_overview"]

_CYCLES: Final = 200
_VERSIONS: Final = 200
_EVENTS: Final = 100
_DAYS: Final = 60
_LABELS: Final = 20
_LOOKS: Final = 400


def read_overview(context: Context) -> dict[str, Any]:
    """Gather versions with their decisions, accuracies, drift, data and costs.

    A version whose files are damaged stands in it by its number alone.

    Raises:
        RegistryError: When the journal is damaged.
    """
    status = read_status(context)
    with context.catalog.read() as connection:
        cycles = [cycle.to_json() for cycle in list_cycles(connection, _CYCLES)]
        day = sa.func.substr(records.c.received_at, 1, 10)
        days = connection.execute(
            sa.select(day, records.c.state, sa.func.count())
            .group_by(day, records.c.state)
            .order_by(day.desc())
        ).all()
        labels = connection.execute(
            sa.select(records.c.key, sa.func.count())
            .where(counts())
            .group_by(records.c.key)
            .order_by(sa.func.count().desc(), records.c.key)
        ).all()
    signals = read_signals(context.workspace.state)
    return {
        "model": context.config.model.name,
        "task": context.config.model.task,
        "at": context.clock.now().isoformat(timespec="seconds"),
        "status": status,
        "versions": _versions(context, status, cycles),
        "cycles": list(reversed(cycles)),
        "events": _newest_events(context),
        "matrix": _matrix(context, status),
        "signals": None if signals is None else signals.to_json(),
        "looks": _thinned(read_looks(context.workspace.state)),
        "days": _days(days),
        "labels": [(str(key), int(number)) for key, number in labels[:_LABELS]],
        "labels_in_all": len(labels),
        "refused": sorted(
            QuarantineTally(context.workspace.quarantine).counts().items(),
            key=lambda item: (-item[1], item[0]),
        )[:15],
        "disk_free_bytes": shutil.disk_usage(context.workspace.root).free,
        "versions_bytes": folder_bytes(context.workspace.versions),
        "serving_bytes": folder_bytes(context.workspace.serving(context.config)),
    }


def _newest_events(context: Context) -> list[JournalRecord]:
    """Give the newest records of the journal, oldest first."""
    happened = (one for one in context.registry.journal.back() if one.event != "intent")
    return list(islice(happened, _EVENTS))[::-1]


def _versions(
    context: Context, status: Mapping[str, Any], cycles: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    by_number = {c["version"]: c for c in cycles if c["version"]}
    champion = (status["champion"] or {}).get("version")
    found: list[dict[str, Any]] = []
    # The newest, and the champion even if it is older than they are.
    numbers = context.registry.numbers()[-_VERSIONS:]
    for number in sorted({*numbers, *([] if champion is None else [champion])}):
        row: dict[str, Any] = {"version": number, "is_champion": number == champion}
        cycle = by_number.get(number)
        try:
            version = context.registry.get(number)
            decision = read_decision(version.path)
        except ContlearnError as error:
            found.append({**row, "problem": error.what})
            continue
        facts = version.manifest
        row |= {
            "created_at": version.created_at.isoformat(timespec="seconds"),
            "parent": version.parent,
            "metrics": facts.metrics,
            "labels": len(facts.model.labels),
            "precision": facts.model.precision,
            "size_bytes": facts.export.size_bytes,
            "records": facts.lineage.records,
            "strategy": facts.lineage.strategy,
            "passed": decision.promoted,
            "outcome": cycle["outcome"] if cycle else None,
            "refused_by": [outcome.rule for outcome in decision.refusals],
            "seconds": sum(((cycle or {}).get("numbers") or {}).get("seconds", {}).values()),
        }
        found.append(row)
    return found


def _matrix(context: Context, status: Mapping[str, Any]) -> Matrix:
    champion = status["champion"]
    if champion is None:
        return ()
    try:
        return read_report(context.registry.get(champion["version"]).path).accuracy_matrix
    except ContlearnError:
        return ()


def _days(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Count what arrived each day, by what became of it; the newest sixty days with arrivals."""
    days: dict[str, Counter[str]] = {}
    for day, state, number in rows:
        if day not in days and len(days) == _DAYS:
            continue
        days.setdefault(str(day), Counter())[str(state)] += int(number)
    return [{"day": day, **counts} for day, counts in sorted(days.items())]


def _thinned(looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the newest looks, and every n-th of the older ones, so that a page stays small."""
    if len(looks) <= _LOOKS:
        return looks
    half = _LOOKS // 2
    older = looks[:-half]
    return older[:: -(-len(older) // half)] + looks[-half:]
