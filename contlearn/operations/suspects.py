"""Labels that are likely wrong: among records not learnt yet, or as a cycle found them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from contlearn.catalog.schema import cycles
from contlearn.context import Context
from contlearn.errors import UsageError

__all__ = ["find_now", "found_by_cycle", "with_texts"]

# So much of a text is shown.
_SHOWN_CHARACTERS: Final = 300


def find_now(context: Context, *, look_at: int) -> dict[str, Any]:
    """Judge the newest records that the champion has not learnt.

    Raises:
        RegistryError: When nothing was promoted yet.
        UsageError: When the task's answers have no probabilities to compare.
    """
    from contlearn.cycle.doubting import proof_of
    from contlearn.data.label_quality import count_pairs, out_of_sample_ids, suspect_labels
    from contlearn.data.store import read_records
    from contlearn.operations.chosen import chosen_version
    from contlearn.registry.loading import load_version

    if "probabilities" not in context.task.gives:
        raise UsageError(
            f"Answers of the task {context.task.name!r} have no probabilities of labels, so that "
            "none can be doubted.",
            where="data suspects",
            hint="`contlearn diff` shows the rows whose answers changed.",
        )
    version = chosen_version(context, None)
    ids = out_of_sample_ids(context.catalog, limit=look_at)
    items = read_records(context.workspace, context.catalog, ids)
    with load_version(context.registry, version, context.manager) as predictor:
        issues = suspect_labels(
            context.task, predictor, items, proof=proof_of(context, version, predictor)
        )
    return {
        "looked_at": len(items),
        "number": len(issues),
        "pairs": count_pairs(context.task, issues, items),
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
                empty: dict[str, Any] = {"looked_at": 0, "number": 0, "pairs": [], "suspects": []}
                return {"cycle": row.cycle_id, **empty, **(found or {})}
    raise UsageError(
        f"There is no cycle {cycle!r} that looked for doubtful labels.",
        where="data suspects",
        hint="`contlearn history` shows the cycles.",
    )


def with_texts(context: Context, suspects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the texts to what is in doubt; what was forgotten since is left out.

    What a cycle writes down has no texts: they stand in the segments alone.
    """
    from contlearn.data.store import read_records

    ids = [suspect["record_id"] for suspect in suspects]
    task = context.task
    records = {
        record.record_id: record for record in read_records(context.workspace, context.catalog, ids)
    }
    found = []
    for suspect in suspects:
        record = records.get(suspect["record_id"])
        if record is None:
            continue
        text = task.text_of(record.inputs)
        shown = {**suspect, "text": text[:_SHOWN_CHARACTERS]}
        words = record.inputs.get("tokens")
        if "words" in suspect and isinstance(words, tuple):
            shown["words"] = [{**one, "text": words[one["word"]]} for one in suspect["words"]]
        found.append(shown)
    return found
