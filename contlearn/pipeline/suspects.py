"""Labels that are likely wrong: among records not learnt yet, or as a cycle found them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from contlearn.catalog.schema import cycles
from contlearn.errors import UsageError
from contlearn.pipeline.context import Context

__all__ = ["find_now", "found_by_cycle"]


def find_now(context: Context, *, look_at: int) -> dict[str, Any]:
    """Judge the newest records that the champion has not learnt.

    Raises:
        RegistryError: When nothing was promoted yet.
    """
    from contlearn.data.label_quality import out_of_sample_ids, suspect_labels
    from contlearn.data.store import read_records
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.pipeline.answers import chosen_version

    folder = chosen_version(context, None).path / "onnx"
    predictor = OnnxPredictor.load(folder, manager=context.manager)
    ids = out_of_sample_ids(context.catalog, limit=look_at)
    items = read_records(context.workspace, context.catalog, ids)
    issues = suspect_labels(predictor, items)
    return {
        "looked_at": len(items),
        "number": len(issues),
        "suspects": [issue.to_json() for issue in issues],
    }


def found_by_cycle(context: Context, cycle: str) -> dict[str, Any]:
    """Give what a cycle found among the records that it learnt and measured on.

    Args:
        context: The opened workspace.
        cycle: Its id, or `last`.
    Raises:
        UsageError: When there is no such cycle.
    """
    query = sa.select(cycles.c.cycle_id, cycles.c.numbers).order_by(cycles.c.seq.desc())
    if cycle != "last":
        query = query.where(cycles.c.cycle_id == cycle)
    with context.catalog.read() as connection:
        for row in connection.execute(query.limit(100)):
            found = (row.numbers or {}).get("suspects")
            if found or cycle != "last":
                empty: dict[str, Any] = {"looked_at": 0, "number": 0, "suspects": []}
                return {"cycle": row.cycle_id, **empty, **(found or {})}
    raise UsageError(
        f"There is no cycle {cycle!r} that looked for doubtful labels.",
        where="data suspects",
        hint="`contlearn history` shows the cycles.",
    )
