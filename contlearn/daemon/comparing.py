"""`python -m contlearn.daemon.comparing FOLDER VERSION FORMER AFTER LIMIT`: two versions on new
labels, as they are served. Records whose labels came after both were made decide between them.

Prints one JSON object: rows, right, former_right, lost (the former was right, the version is not),
won, differing.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from contlearn.catalog.schema import records
from contlearn.context import Context
from contlearn.errors import ContlearnError
from contlearn.processes.children import die_with_parent

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
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.types import HeldOutSet

    with context.catalog.read() as connection:
        ids = list(
            connection.execute(
                sa.select(records.c.record_id)
                .where(records.c.seq > after, records.c.state == "pending", records.c.attempts == 0)
                .order_by(records.c.seq.desc())
                .limit(limit)
            ).scalars()
        )
    rows = tuple(read_records(context.workspace, context.catalog, ids))
    held_out = HeldOutSet(experience="probation", index=0, records=rows, is_new=True)
    answers = []
    for number in (version, former):
        folder = context.registry.get(number).path / "onnx"
        with contextlib.closing(OnnxPredictor.load(folder, manager=context.manager)) as predictor:
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
    """Compare, and print the result or the error as one JSON line."""
    die_with_parent()
    root, version, former, after, limit = sys.argv[1:] if arguments is None else arguments
    try:
        with Context.open(Path(root)) as context:
            value: dict[str, object] = dict(
                compare_on_new_labels(
                    context, int(version), int(former), after=int(after), limit=int(limit)
                )
            )
    except ContlearnError as error:
        value = {"kind": type(error).__name__, **error.to_json()}
    sys.stdout.write(json.dumps(value) + "\n")
    return 1 if "error" in value else 0


if __name__ == "__main__":
    sys.exit(main())
