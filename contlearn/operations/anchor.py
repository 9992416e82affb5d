"""The best proven version of the champion's lineage, for `anchor show`."""

from __future__ import annotations

from typing import Any

from contlearn.catalog.cycles import next_look
from contlearn.context import Context
from contlearn.operations.status import best_facts
from contlearn.papers.report import measured_by
from contlearn.registry.anchors import last_reset

__all__ = ["read_anchor"]


def read_anchor(context: Context) -> dict[str, Any]:
    """Give everything that `anchor show --json` prints."""
    champion, reset = context.registry.champion(), last_reset(context.registry)
    with context.catalog.read() as connection:
        looks = next_look(connection, 0 if reset is None else reset.number) - 1
    nothing = {"version": None, "difference": None, "rows": None, "metric": None}
    return {
        "champion": champion,
        **(nothing if champion is None else best_facts(context, champion)),
        "looks": looks,
        "reset_at": None if reset is None else reset.at,
        "reset_reason": None if reset is None else reset.reason,
        **measured_by(context.task.metrics, context.task.primary_metric),
    }
