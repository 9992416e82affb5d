"""Scores of a version on held-out sets, and the report that is stored with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contlearn.errors import EvaluationError
from contlearn.evaluation.answers import answer_set, score_answers
from contlearn.evaluation.metrics import (
    as_matrix,
    average_accuracy,
    backward_transfer,
    forgetting,
)
from contlearn.interfaces import Predictor, Progress, Task
from contlearn.papers.report import EvaluationReport, SetReport
from contlearn.tasks.measures import metric_named
from contlearn.types import HeldOutSet, LabelSpace, Metric, SetScores, Target
from contlearn.wording import OVER_EXPERIENCES

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["build_report", "score_sets"]

_MEASURES: Final = tuple(
    zip(OVER_EXPERIENCES, (average_accuracy, forgetting, backward_transfer), strict=True)
)


def score_sets(
    predictor: Predictor,
    sets: Sequence[HeldOutSet],
    task: Task,
    labels: LabelSpace,
    *,
    memory: Path | None = None,
    version_key: str | None = None,
    progress: Progress | None = None,
) -> list[SetScores]:
    """Score a version, as it is served, on every held-out set.

    Args:
        predictor: The version.
        sets: What to score on.
        task: Its measures.
        labels: The outputs; labels that occur in the sets only are added behind.
        memory: `state/evaluations`; answers on an unchanged set are reused from there.
        version_key: Names the version in the memory.
        progress: Told after each set.
    Raises:
        StorageError: When answers could not be remembered.
    """
    asked = [
        (answer_set(predictor, held_out, task, memory=memory, version_key=version_key), held_out)
        for held_out in _told(sets, progress)
    ]
    covering = task.outputs(labels, [task.stored(r.target) for s in sets for r in s.records])
    covering = task.outputs(covering, [t for answers, _ in asked for t in answers.targets])
    return [
        score_answers(
            answers,
            [task.stored(record.target) for record in held_out.records],
            task,
            covering,
            experience=held_out.experience,
            index=held_out.index,
        )
        for answers, held_out in asked
    ]


def build_report(
    scores: Sequence[SetScores],
    sets: Sequence[HeldOutSet],
    task: Task,
    *,
    version: int | None = None,
    earlier: EvaluationReport | None = None,
    row: int | None = None,
) -> EvaluationReport:
    """Put scores together: metrics over all rows, the accuracy matrix, labels, confusion.

    Args:
        scores: One for each set, in the same order.
        sets: The rows that were scored.
        task: Its measures; its primary metric fills the matrix.
        version: The version's number, when it has one.
        earlier: The stored report of the version's parent, or its own: rows before its own.
        row: How many experiences came before; by default the last row of `earlier`.
    Raises:
        EvaluationError: When there is not one score for each set.
    """
    if len(scores) != len(sets):
        raise EvaluationError(
            f"There are {len(scores)} scores for {len(sets)} held-out sets.",
            where="build_report",
            hint="Score the same sets that are reported.",
        )
    before = () if earlier is None else earlier.accuracy_matrix
    if row is None:
        row = len(before) - 1 if before else max((s.index for s in scores), default=0)
    targets = [task.stored(r.target) for s in sets for r in s.records]
    answers: list[Target] = [a for s in scores for a in s.predictions]
    labels = task.outputs(task.outputs(LabelSpace(()), targets), answers)
    sums = task.statistics(answers, targets, labels).sum(axis=0) if targets else None
    last: list[float | None] = [None] * (row + 1)
    for score in scores:
        if score.index <= row and score.rows:
            last[score.index] = score.metrics[task.primary_metric]
    matrix = (*before[:row], tuple(last))
    metrics: dict[str, float | None] = dict.fromkeys(metric.name for metric in task.metrics)
    if sums is not None:
        summary = task.summarise(sums, labels)
        metrics = {m.name: float(summary[m.name]) for m in task.metrics}
    metrics.update(_over_experiences(matrix, metric_named(task, task.primary_metric)))
    return EvaluationReport(
        version=version,
        metrics=metrics,
        primary_metric=task.primary_metric,
        measures=tuple(metric for metric in task.metrics if not metric.is_share),
        accuracy_matrix=matrix,
        per_label=task.per_label(sums, labels) if sums is not None else (),
        confusion=task.confusion(answers, targets) if targets else None,
        sets=tuple(
            SetReport(
                experience=score.experience,
                index=score.index,
                is_new=held_out.is_new,
                rows=score.rows,
                metrics=score.metrics,
                content_hash=held_out.content_hash,
            )
            for score, held_out in zip(scores, sets, strict=True)
        ),
    )


def _over_experiences(
    matrix: Sequence[Sequence[float | None]], primary: Metric
) -> dict[str, float | None]:
    """Give the measures over experiences; null where they are not defined.

    Forgetting is what got worse and transfer what got better, whichever way the measure goes.
    """
    accuracy: FloatArray = primary.oriented(as_matrix(matrix))
    values: dict[str, float | None] = {}
    for name, measure in _MEASURES:
        try:
            value = measure(accuracy)
        except EvaluationError:
            values[name] = None
        else:
            # Adding zero takes the sign of a turned zero away.
            turned = primary.oriented(value) + 0.0
            values[name] = turned if name == "average_accuracy" else value
    return values


def _told(sets: Sequence[HeldOutSet], progress: Progress | None) -> Iterator[HeldOutSet]:
    """Go through the sets, telling before each how many rows are done."""
    total, done = sum(len(held_out.records) for held_out in sets), 0
    for held_out in sets:
        if progress is not None:
            progress("scoring", done, total, "")
        yield held_out
        done += len(held_out.records)
    if progress is not None:
        progress("scoring", done, total, "")
