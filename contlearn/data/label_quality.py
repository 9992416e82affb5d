"""Likely wrong labels, by confident learning; they are listed with evidence, never changed.

The predictions must be out of sample: of a model on records it has not learnt. Held-out records
and records that wait to be learnt are such for the champion; those that a cycle has just learnt
are, for the champion that it started from.

The well-known library for this, cleanlab, is under the AGPL, which does not go with Apache-2.0;
what is needed of the method is a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.schema import records
from contlearn.data.store import read_records
from contlearn.interfaces import Predictor
from contlearn.types import ClassPrediction, LabelledRecord
from contlearn.workspace import Workspace

if TYPE_CHECKING:
    from contlearn.types import FloatArray, IntArray

__all__ = [
    "LabelIssue",
    "confident_issues",
    "find_suspects",
    "judge_cycle",
    "out_of_sample_ids",
    "suspect_labels",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelIssue:
    """A record whose label is doubtful, the label that is likely meant, and why.

    `given_probability` and `suggested_probability` are the model's; `threshold` is the mean
    probability of the suggested label over the records that have it.
    """

    record_id: str
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float
    threshold: float
    source: str

    def to_json(self) -> dict[str, object]:
        """Give the issue as `data suspects --json` prints it."""
        return {
            "record_id": self.record_id,
            "given": self.given,
            "suggested": self.suggested,
            "given_probability": round(self.given_probability, 4),
            "suggested_probability": round(self.suggested_probability, 4),
            "threshold": round(self.threshold, 4),
            "source": self.source,
        }


def confident_issues(probabilities: FloatArray, given: IntArray) -> tuple[IntArray, FloatArray]:
    """Find rows that are confidently of another class than the one they were given.

    The threshold of a class is the mean probability of that class over the rows that have it. A
    row counts for every class whose threshold it reaches, and is assigned to the most probable of
    these; one that is assigned to another class than its own is an issue.

    Args:
        probabilities: Of each class, out of sample.
        given: The position of each row's own class.
    Returns:
        For each row the class it is confidently of (its own when there is no issue), and the
        thresholds; a class without rows has an infinite one.
    Shape: probabilities (n, C), given (n,); the answers (n,) and (C,).
    Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", 2021, the confident joint and the rule "prune by off-diagonals".
    Example:
        >>> shown = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> found, _ = confident_issues(shown, np.array([0, 0, 1, 1, 1]))
        >>> found.tolist()
        [0, 0, 1, 1, 0]
    """
    rows, classes = probabilities.shape
    own = probabilities[np.arange(rows), given]
    number = np.bincount(given, minlength=classes)
    sums = np.bincount(given, weights=own, minlength=classes)
    thresholds = np.where(number > 0, sums / np.maximum(number, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = reached.argmax(axis=1)
    sure = reached[np.arange(rows), best] > 0
    return np.where(sure, best, given), thresholds


def suspect_labels(predictor: Predictor, items: Sequence[LabelledRecord]) -> list[LabelIssue]:
    """List the records whose labels are likely wrong, the most doubtful first.

    Records with a label that the model does not know say nothing about it and are left out.

    Args:
        predictor: A classifier that has not learnt these records.
        items: The records.
    """
    names = predictor.label_space.names
    index = {name: position for position, name in enumerate(names)}
    known = [r for r in items if isinstance(r.target, str) and r.target in index]
    if len(names) < 2 or not known:
        return []
    rows = [
        [prediction.scores[name] for name in names]
        for prediction in predictor.predict([record.inputs for record in known])
        if isinstance(prediction, ClassPrediction)
    ]
    if len(rows) != len(known):
        return []
    probabilities = np.array(rows, dtype=np.float64)
    given = np.array([index[str(record.target)] for record in known], dtype=np.int64)
    confident, thresholds = confident_issues(probabilities, given)
    issues = [
        LabelIssue(
            record_id=known[row].record_id,
            given=names[given[row]],
            suggested=names[confident[row]],
            given_probability=float(probabilities[row, given[row]]),
            suggested_probability=float(probabilities[row, confident[row]]),
            threshold=float(thresholds[confident[row]]),
            source=known[row].source,
        )
        for row in np.flatnonzero(confident != given).tolist()
    ]
    return sorted(issues, key=lambda i: i.given_probability - i.suggested_probability)


def out_of_sample_ids(catalog: Catalog, *, limit: int) -> list[str]:
    """Give the newest records that no champion has learnt: held out, or waiting to be learnt."""
    query = (
        sa.select(records.c.record_id)
        .where(
            sa.or_(
                sa.and_(records.c.split == "held_out", records.c.state != "forgotten"),
                records.c.state.in_(("pending", "refused")),
            )
        )
        .order_by(records.c.seq.desc())
        .limit(limit)
    )
    with catalog.read() as connection:
        return list(connection.execute(query).scalars())


def find_suspects(
    workspace: Workspace, catalog: Catalog, predictor: Predictor, *, limit: int = 5_000
) -> list[LabelIssue]:
    """Look through the newest records that the model has not learnt."""
    ids = out_of_sample_ids(catalog, limit=limit)
    return suspect_labels(predictor, read_records(workspace, catalog, ids))


def judge_cycle(
    new: Sequence[LabelledRecord],
    held_out: Sequence[LabelledRecord],
    *,
    before: Predictor | None,
    after: Predictor,
    look_at: int = 1_000,
    keep: int = 20,
) -> dict[str, object]:
    """Look through a cycle's records for labels that are likely wrong.

    Args:
        new: What the cycle has learnt; judged by the model it started from.
        held_out: What it measures on; judged by the new model.
        before: The champion at the start; without one, what was learnt cannot be judged.
        after: The challenger.
        look_at: How many records of each kind at most, the newest.
        keep: How many are listed, the most doubtful.
    Returns:
        `looked_at`, `number`, and `suspects` as `data suspects --json` prints them.
    """
    learnt = list(new[-look_at:]) if before is not None else []
    measured = list(held_out[-look_at:])
    issues = suspect_labels(after, measured)
    if before is not None:
        issues += suspect_labels(before, learnt)
    issues.sort(key=lambda issue: issue.given_probability - issue.suggested_probability)
    return {
        "looked_at": len(learnt) + len(measured),
        "number": len(issues),
        "suspects": [issue.to_json() for issue in issues[:keep]],
    }
