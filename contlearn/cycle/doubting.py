"""Labels in doubt, told when they arrive: `python -m contlearn.cycle.doubting ROOT AFTER MOST`.

A file that was taken in holds labels that the champion has not learnt, so it can judge them at
once. That wants the model, and so a process of its own; whoever takes files in loads none. The
child looks at a bounded random choice of the new records (`monitoring.doubt_records`) and prints
one JSON object: looked_at, number, pairs, strange (of labels the champion does not know).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from contlearn.catalog.counting import counts
from contlearn.catalog.schema import records
from contlearn.context import Context
from contlearn.errors import ContlearnError, StorageError
from contlearn.papers.reading import read_paper
from contlearn.registry.versions import ModelVersion
from contlearn.types import HeldOutSet, LabelledRecord
from contlearn.workspace import read_json, write_json_atomic

if TYPE_CHECKING:
    from contlearn.data.label_quality import Proof
    from contlearn.interfaces import Predictor, Task

__all__ = [
    "PROVED",
    "doubts_of_cycle",
    "find_doubts",
    "in_words",
    "last_doubts",
    "look_at_arrivals",
    "main",
    "newest_row",
    "proof_of",
    "read_proof",
    "spread_rows",
]

# In a version's folder: how sure it is of each label on its held-out rows.
PROVED: Final = "proved.json"
# So many held-out rows are asked about at most.
PROOF_ROWS: Final = 1_000
# Whoever takes files in waits for the answer: beyond this it is said that there is none.
_SECONDS: Final = 300.0


def spread_rows(sets: Sequence[HeldOutSet]) -> list[LabelledRecord]:
    """Choose rows that the sets share evenly: an old experience counts as much as the last."""
    share = PROOF_ROWS // max(1, len(sets))
    return [record for one in sets for record in one.records[:share]]


def proof_of(context: Context, version: ModelVersion, predictor: Predictor) -> Proof:
    """Say how sure a version of the registry is of each label."""
    from contlearn.cycle.held_out import read_held_out

    def held_out() -> Sequence[HeldOutSet]:
        experiences = version.manifest.lineage.experiences
        return read_held_out(context.workspace, context.catalog, experiences, capacity=PROOF_ROWS)

    return read_proof(version.path, context.task, predictor, held_out)


def read_proof(
    folder: Path, task: Task, predictor: Predictor, held_out: Callable[[], Sequence[HeldOutSet]]
) -> Proof:
    """Say how sure a version is of each label, as it was written down when it was made.

    One of an earlier contlearn is asked.

    Args:
        folder: The version's.
        task: Of the model.
        predictor: The version.
        held_out: Gives the rows that it is asked about.
    """
    from contlearn.data.label_quality import Proof, ask_opinions, prove

    with contextlib.suppress(StorageError):
        return read_paper(folder / PROVED, Proof.from_json)
    opinions = ask_opinions(task, predictor, spread_rows(held_out()))
    return prove(task, predictor.label_space.names, opinions)


def newest_row(context: Context) -> int:
    """Give the number of the newest record; what arrives from now on has a higher one."""
    with context.catalog.read() as connection:
        return int(connection.execute(sa.select(sa.func.max(records.c.seq))).scalar() or 0)


def look_at_arrivals(context: Context, *, after: int) -> dict[str, Any]:
    """Let the champion judge the records that arrived after a moment, in a child.

    Nothing fails by it: what could not be looked at is said.

    Returns:
        `looked_at`, `number`, `share`, `pairs`, `strange`, and `not_looked_at`: why none was.
    """
    most = context.config.monitoring.doubt_records
    champion = context.registry.champion()
    why = None
    found: dict[str, Any] = {}
    if champion is None:
        why = "no model was promoted yet"
    elif not most:
        why = "monitoring.doubt_records is 0"
    elif newest_row(context) == after:
        why = "no record is new"
    else:
        # Whoever shows the status never starts a child.
        from contlearn.processes.asking import ask_child
        from contlearn.processes.children import ChildLimits

        try:
            found = ask_child(
                "contlearn.cycle.doubting",
                (context.workspace.root, after, most),
                what="Judging the new labels",
                needed="looked_at",
                log=context.workspace.state / "doubting.log",
                limits=ChildLimits(seconds=_SECONDS, log_bytes=context.config.retention.log_bytes),
                environ=context.for_children(),
            )
        except (ContlearnError, OSError) as error:
            why = error.what if isinstance(error, ContlearnError) else str(error)
    value = {
        "at": context.clock.now().isoformat(timespec="seconds"),
        "version": champion,
        **_counted(found),
        "not_looked_at": why,
    }
    if why is None:
        # Only for looking at; the records are judged again by the update that learns them.
        with contextlib.suppress(StorageError):
            write_json_atomic(_last(context), value)
    return value


def last_doubts(context: Context) -> dict[str, Any] | None:
    """Give what was found when files were taken in last; None before, or for a former champion."""
    try:
        value = read_json(_last(context))
    except StorageError:
        return None
    return value if value.get("version") == context.registry.champion() else None


def doubts_of_cycle(numbers: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give what a cycle found in its labels, from its numbers; None where it did not look."""
    found = (numbers or {}).get("suspects")
    return _counted(found) if found else None


def _counted(found: Mapping[str, Any]) -> dict[str, Any]:
    looked_at, number = int(found.get("looked_at", 0)), int(found.get("number", 0))
    return {
        "looked_at": looked_at,
        "number": number,
        "share": round(number / looked_at, 4) if looked_at else 0.0,
        "pairs": list(found.get("pairs", ())),
        "strange": int(found.get("strange", 0)),
    }


def in_words(value: Mapping[str, Any]) -> str:
    """Say how many labels are in doubt, and where the most of them are.

    Example:
        >>> pair = {"given": "refund", "suggested": "card lost", "number": 9, "of": 12}
        >>> in_words({"number": 10, "looked_at": 250, "pairs": [pair]})
        "10 of 250 new labels are in doubt; 9 of 12 labelled 'refund' look like 'card lost'"
    """
    said = f"{value['number']} of {value['looked_at']} new labels are in doubt"
    pairs = [
        f"{pair['number']} of {pair['of']} labelled {pair['given']!r} look like "
        f"{pair['suggested']!r}"
        for pair in value["pairs"][:3]
        if pair["number"] > 1
    ]
    return "; ".join([said, *pairs])


def _last(context: Context) -> Path:
    return context.workspace.state / "doubts.json"


def find_doubts(context: Context, *, after: int, most: int) -> dict[str, Any]:
    """Judge the records that arrived after a moment: a random choice of so many.

    Ids are hashes, so those with the lowest are such a choice.
    """
    from contlearn.data.label_quality import count_pairs, is_known_to, suspect_labels
    from contlearn.data.store import read_records
    from contlearn.registry.loading import load_version

    if "probabilities" not in context.task.gives:
        return {"looked_at": 0, "number": 0, "pairs": [], "strange": 0}
    champion = context.registry.champion()
    if champion is None:
        raise StorageError("There is no champion to ask.", where="doubts", hint="Update first.")
    version = context.registry.get(champion)
    query = (
        sa.select(records.c.record_id)
        .where(records.c.seq > after, counts())
        .order_by(records.c.record_id)
        .limit(most)
    )
    with context.catalog.read() as connection:
        ids = list(connection.execute(query).scalars())
    every = read_records(context.workspace, context.catalog, ids)
    with load_version(context.registry, version, context.manager) as predictor:
        items = [one for one in every if is_known_to(context.task, predictor, one)]
        issues = suspect_labels(
            context.task, predictor, items, proof=proof_of(context, version, predictor)
        )
    return {
        "looked_at": len(items),
        "number": len(issues),
        "pairs": count_pairs(context.task, issues, items),
        "strange": len(every) - len(items),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, and answer the parent."""
    from contlearn.processes.answering import answer_parent

    root, after, most = sys.argv[1:] if arguments is None else arguments

    def look() -> dict[str, Any]:
        with Context.open(Path(root)) as context:
            return find_doubts(context, after=int(after), most=int(most))

    return answer_parent(look)


if __name__ == "__main__":
    sys.exit(main())
