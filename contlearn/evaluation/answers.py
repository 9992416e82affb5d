"""What a version answered on a held-out set, as it is remembered: label names, never texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from contlearn.errors import StorageError
from contlearn.interfaces import Predictor, Task
from contlearn.papers.scores import Answers
from contlearn.types import HeldOutSet, LabelSpace, SetScores, Target
from contlearn.workspace import read_json, write_json_atomic

__all__ = ["answer_set", "recall", "score_answers"]

FORMAT_VERSION: Final = 1
# Sets remembered for one version: every refused cycle brings a new set for the same champion.
_SETS_REMEMBERED: Final = 256


def answer_set(
    predictor: Predictor,
    held_out: HeldOutSet,
    task: Task,
    *,
    memory: Path | None = None,
    version_key: str | None = None,
) -> Answers:
    """Ask a version for its answers, or recall them when it was asked on the same rows before.

    Args:
        predictor: Answers as it would be served.
        held_out: The rows.
        task: Turns predictions into answers.
        memory: Where answers are remembered; nothing is without it.
        version_key: Names the version, which never changes.
    Raises:
        StorageError: When the answers could not be written down.
    """
    path = None
    if memory is not None and version_key is not None:
        path = memory / version_key / f"{held_out.content_hash}.json"
        remembered = recall(path, held_out)
        if remembered is not None:
            return remembered
    predictions = predictor.predict([record.inputs for record in held_out.records])
    answers = Answers(
        tuple(task.stored(prediction.target) for prediction in predictions),
        tuple(round(p.confidence, 4) for p in predictions if p.confidence is not None)
        if "confidence" in task.gives
        else (),
    )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(
            path,
            {
                "format_version": FORMAT_VERSION,
                "record_ids": [record.record_id for record in held_out.records],
                **answers.to_json(),
            },
        )
        _forget_oldest(path.parent)
    return answers


def _forget_oldest(folder: Path) -> None:
    """Keep the newest remembered sets of a version; the others would only be asked again."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in paths[:-_SETS_REMEMBERED]:
        path.unlink(missing_ok=True)


def recall(path: Path, held_out: HeldOutSet) -> Answers | None:
    """Read remembered answers, in the order of the set; None when there are none to trust."""
    try:
        value = read_json(path)
        answers = Answers.from_json(value)
    except (StorageError, KeyError, TypeError, IndexError):
        return None
    return in_order(answers, value.get("record_ids", ()), held_out)


def in_order(answers: Answers, ids: Sequence[str], held_out: HeldOutSet) -> Answers | None:
    """Put answers into the order of a set's records; None when a record has none."""
    places = {record_id: place for place, record_id in enumerate(ids)}
    wanted = [places.get(record.record_id) for record in held_out.records]
    if len(ids) != len(answers.targets) or any(place is None for place in wanted):
        return None
    confidences = answers.confidences
    if len(confidences) not in (0, len(ids)):
        return None
    return Answers(
        tuple(answers.targets[place] for place in wanted if place is not None),
        tuple(confidences[place] for place in wanted if place is not None) if confidences else (),
    )


def score_answers(
    answers: Answers,
    targets: Sequence[Target],
    task: Task,
    labels: LabelSpace,
    *,
    experience: str,
    index: int,
) -> SetScores:
    """Count what the metrics are made of. `labels` covers all names that occur."""
    statistics = task.statistics(answers.targets, targets, labels)
    summary = task.summarise(statistics.sum(axis=0), labels)
    return SetScores(
        experience=experience,
        index=index,
        rows=len(targets),
        metrics={name: float(value) for name, value in summary.items()},
        statistics=statistics,
        predictions=answers.targets,
        credits=tuple(map(task.credit, answers.targets, targets)),
        confidences=answers.confidences,
    )
