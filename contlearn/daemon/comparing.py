"""`python -m contlearn.daemon.comparing FOLDER VERSION FORMER AFTER LIMIT`: two versions on new
labels, as they are served. Records whose labels came after both were made decide between them.

Prints one JSON object: rows, right, former_right, lost (the former was right, the version is not),
won, differing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from contlearn.catalog.counting import unlearnt
from contlearn.catalog.schema import records
from contlearn.context import Context
from contlearn.processes.answering import answer_parent

__all__ = ["compare_on_new_labels", "main"]


def compare_on_new_labels(
    context: Context, version: int, former: int, *, after: int, limit: int
) -> dict[str, int]:
    """Let two versions answer the newest records that neither has learnt.

    Args:
        context: The opened workspace.
        version: The new champion.
        former: The one before.
        after: The number (`seq`) of a record; later ones take part.
        limit: How many records at most, the newest.
    """
    from contlearn.data.store import read_records
    from contlearn.evaluation.answers import answer_set
    from contlearn.registry.loading import load_version
    from contlearn.types import HeldOutSet

    with context.catalog.read() as connection:
        ids = list(
            connection.execute(
                sa.select(records.c.record_id)
                .where(records.c.seq > after, unlearnt())
                .order_by(records.c.seq.desc())
                .limit(limit)
            ).scalars()
        )
    rows = tuple(read_records(context.workspace, context.catalog, ids))
    held_out = HeldOutSet(experience="probation", index=0, records=rows, is_new=True)
    answers = []
    for number in (version, former):
        known = context.registry.get(number)
        with load_version(context.registry, known, context.manager) as predictor:
            answers.append(answer_set(predictor, held_out, context.task).targets)
    right = [
        (new == record.target, old == record.target, new != old)
        for record, new, old in zip(rows, *answers, strict=True)
    ]
    return {
        "rows": len(rows),
        "right": sum(new for new, _, _ in right),
        "former_right": sum(old for _, old, _ in right),
        "lost": sum(old and not new for new, old, _ in right),
        "won": sum(new and not old for new, old, _ in right),
        "differing": sum(differs for _, _, differs in right),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and answer the parent."""
    root, *numbers = sys.argv[1:] if arguments is None else arguments
    version, former, after, limit = map(int, numbers)

    def compare() -> dict[str, int]:
        with Context.open(Path(root)) as context:
            return compare_on_new_labels(context, version, former, after=after, limit=limit)

    return answer_parent(compare)


if __name__ == "__main__":
    sys.exit(main())
