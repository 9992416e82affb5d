"""The evaluating stage of a cycle: challenger and champion on the same rows, written down.

`scores.json` holds targets and answers of both, so that the gate can judge again after a kill, so
that the next cycle need not ask this version on unchanged sets, and so that two versions can be
compared row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from contlearn.errors import StorageError
from contlearn.evaluation.anchors import BestAnswers
from contlearn.evaluation.answers import answer_set, score_answers
from contlearn.evaluation.calibration import reliability
from contlearn.evaluation.evaluator import build_report
from contlearn.evaluation.flips import worst_rows
from contlearn.evaluation.slices import score_slices, slices_of
from contlearn.evaluation.text_slices import compare_text_slices
from contlearn.interfaces import Predictor, Progress, Task
from contlearn.papers.reading import read_paper
from contlearn.papers.report import REPORT, Comparison, EvaluationReport, read_report
from contlearn.papers.scores import SCORES, Answers, ScoredSet, Scores, read_scores
from contlearn.types import HeldOutSet, LabelSpace, PairedScores, SetScores, Target
from contlearn.workspace import write_json_atomic

__all__ = ["evaluate_cycle", "load_paired_scores"]


def evaluate_cycle(
    *,
    task: Task,
    sets: Sequence[HeldOutSet],
    challenger: Predictor,
    champion: Predictor | None,
    champion_version: int | None,
    champion_folder: Path | None,
    memory: Path,
    output: Path,
    progress: Progress,
    metric: str | None = None,
    runtime: Mapping[str, Any] | None = None,
    corrected: Set[str] = frozenset(),
    best: BestAnswers | None = None,
    text_slices: Mapping[str, str] | None = None,
) -> dict[str, float | None]:
    """Score challenger and champion on every held-out set; write report.json and scores.json.

    Args:
        task: Its measures.
        sets: Every held-out set of the lineage, the new one marked.
        challenger: As it will be served.
        champion: As it is served; None before the first promotion.
        champion_version: Its number, which names its answers in the memory.
        champion_folder: Its version, whose report has the earlier rows of the accuracy matrix.
        memory: `state/evaluations`.
        output: The version folder being built.
        progress: Told after each set.
        metric: What slices are scored by; the task's own if left out.
        runtime: What `measure_runtime` gave, for the report.
        corrected: Experiences whose sets have lost rows that the champion was measured on.
        best: What the best proven version answers, where that is not the champion.
        text_slices: Patterns of named slices of the texts, as in `[monitoring.slices]`.
    Returns:
        The challenger's metrics.
    Raises:
        StorageError: When the disk is full or a stored report is damaged.
    """
    total = sum(len(held_out.records) for held_out in sets)
    known = _known_answers(champion_folder)
    done = 0
    mine: list[Answers] = []
    theirs: list[Answers | None] = []
    anchors: list[Answers | None] = []
    progress("evaluating", 0, total, "")
    for held_out in sets:
        mine.append(answer_set(challenger, held_out, task))
        answers = None
        if champion is not None:
            answers = _champion_answers(
                known, champion, held_out, task, memory, f"version-{champion_version}"
            )
        theirs.append(answers)
        anchors.append(
            None
            if best is None or answers is None or held_out.is_new
            else best.on(held_out, answers, task)
        )
        done += len(held_out.records)
        progress("evaluating", done, total, f"{done} of {total} held-out rows")
    names = challenger.label_space.names
    if champion is not None:
        names = LabelSpace(champion.label_space.names).extended(names).names
    labels = task.outputs(
        LabelSpace(names), [task.stored(r.target) for held_out in sets for r in held_out.records]
    )
    write_json_atomic(output / SCORES, _scores(task, labels, sets, mine, theirs, anchors).to_json())
    paired, labels = load_paired_scores(output, task)
    earlier = read_report(champion_folder) if champion_folder is not None else None
    if earlier is not None and corrected:
        earlier = _measured_anew(earlier, paired, corrected, task.primary_metric)
    report = build_report(
        [pair.challenger for pair in paired],
        sets,
        task,
        earlier=earlier,
        row=len(earlier.accuracy_matrix) if earlier else max((s.index for s in sets), default=0),
    )
    new = next((held_out.experience for held_out in sets if held_out.is_new), None)
    before = () if earlier is None or earlier.comparison is None else earlier.comparison.experiences
    report = replace(
        report,
        sets=tuple(
            replace(
                item,
                champion=None if pair.champion is None else pair.champion.metrics,
                majority=pair.majority,
            )
            for item, pair in zip(report.sets, paired, strict=True)
        ),
        comparison=Comparison(
            experiences=(*before, new),
            reliability=reliability(paired),
            runtime=runtime,
            slices=tuple(score_slices(paired, task, labels, metric or task.primary_metric)),
            metric=metric or task.primary_metric,
            champion_metrics=_champion_metrics(paired, task, labels),
            flips=worst_rows(paired, [[r.record_id for r in s.records] for s in sets]),
            label_counts=_label_counts(task, sets),
            text_slices=tuple(
                compare_text_slices(text_slices, sets, [a.targets for a in mine], task)
            )
            if text_slices
            else None,
        ),
    )
    write_json_atomic(output / REPORT, report.to_json())
    return dict(report.metrics)


def _measured_anew(
    earlier: EvaluationReport, pairs: Sequence[PairedScores], corrected: Set[str], metric: str
) -> EvaluationReport:
    """Give the champion's report with its measures on the rows that are left of corrected sets.

    What versions before it reached was measured by wrong labels, and they are not asked again.
    """
    matrix = [list(row) for row in earlier.accuracy_matrix]
    for pair in pairs:
        if pair.experience in corrected:
            for row in matrix:
                if pair.index < len(row):
                    row[pair.index] = None
            if matrix and pair.champion is not None and pair.index < len(matrix[-1]):
                matrix[-1][pair.index] = pair.champion.metrics[metric]
    return replace(earlier, accuracy_matrix=tuple(map(tuple, matrix)))


def load_paired_scores(folder: Path, task: Task) -> tuple[tuple[PairedScores, ...], LabelSpace]:
    """Read what `evaluate_cycle` wrote, as the gate wants it.

    Returns:
        One pair for each held-out set, and the labels their statistics are counted over.
    Raises:
        StorageError: When it is missing, damaged or of another format.
    """

    def paired(value: Mapping[str, Any]) -> tuple[tuple[PairedScores, ...], LabelSpace]:
        scores = Scores.from_json(value)
        labels = LabelSpace(scores.labels)
        return tuple(_pair(item, task, labels) for item in scores.sets), labels

    return read_paper(folder / SCORES, paired)


def _pair(item: ScoredSet, task: Task, labels: LabelSpace) -> PairedScores:
    targets = item.targets

    def score(answers: Answers) -> SetScores:
        return score_answers(
            answers, targets, task, labels, experience=item.experience, index=item.index
        )

    baseline = score(Answers(task.baseline(targets)))
    return PairedScores(
        experience=item.experience,
        index=item.index,
        is_new=item.is_new,
        challenger=score(item.challenger),
        champion=None if item.champion is None else score(item.champion),
        anchor=None if item.anchor is None else score(item.anchor),
        kept=item.kept,
        majority=baseline.metrics[task.primary_metric],
        baseline=baseline,
        targets=targets,
        slices=item.slices,
    )


def _scores(
    task: Task,
    labels: LabelSpace,
    sets: Sequence[HeldOutSet],
    mine: Sequence[Answers],
    theirs: Sequence[Answers | None],
    anchors: Sequence[Answers | None],
) -> Scores:
    slices = slices_of([held_out.records for held_out in sets], task)
    return Scores(
        labels=labels.names,
        sets=tuple(
            ScoredSet(
                experience=held_out.experience,
                index=held_out.index,
                is_new=held_out.is_new,
                content_hash=held_out.content_hash,
                record_ids=tuple(record.record_id for record in held_out.records),
                targets=tuple(task.stored(record.target) for record in held_out.records),
                challenger=challenger,
                champion=champion,
                anchor=anchor,
                kept=tuple(
                    place
                    for place, record in enumerate(held_out.records)
                    if record.record_id in held_out.kept
                ),
                slices=some,
            )
            for held_out, challenger, champion, anchor, some in zip(
                sets, mine, theirs, anchors, slices, strict=True
            )
        ),
    )


def _champion_metrics(
    pairs: Sequence[PairedScores], task: Task, labels: LabelSpace
) -> dict[str, float] | None:
    """Measure the champion over all sets together; None where there is none."""
    import numpy as np

    sums = [pair.champion.statistics.sum(axis=0) for pair in pairs if pair.champion is not None]
    if not sums or len(sums) < len(pairs):
        return None
    summary = task.summarise(np.sum(sums, axis=0), labels)
    return {m.name: float(summary[m.name]) for m in task.metrics}


def _label_counts(task: Task, sets: Sequence[HeldOutSet]) -> dict[str, int]:
    """Count the held-out rows of each label, the commonest first; a row counts all its types."""
    counts: Counter[str] = Counter()
    for held_out in sets:
        for record in held_out.records:
            counts.update(set(task.labels_of(record.target)))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _known_answers(champion_folder: Path | None) -> dict[str, tuple[Target, float | None]]:
    """Give the champion's own answers from when it was the challenger, by record id."""
    if champion_folder is None:
        return {}
    known: dict[str, tuple[Target, float | None]] = {}
    try:
        scores = read_scores(champion_folder)
    except StorageError:
        return {}  # asked again, that is all
    for item in scores.sets:
        answers = item.challenger
        confidences = answers.confidences or (None,) * len(answers.targets)
        known.update(
            zip(item.record_ids, zip(answers.targets, confidences, strict=True), strict=True)
        )
    return known


def _champion_answers(
    known: Mapping[str, tuple[Target, float | None]],
    champion: Predictor,
    held_out: HeldOutSet,
    task: Task,
    memory: Path,
    version_key: str,
) -> Answers:
    """Give the champion's answers: known ones as they are, the rest is asked and remembered."""
    missing = tuple(record for record in held_out.records if record.record_id not in known)
    merged = known
    if missing:
        asked = answer_set(
            champion,
            replace(held_out, records=missing),
            task,
            memory=memory,
            version_key=version_key,
        )
        confidences = asked.confidences or (None,) * len(missing)
        pairs = zip(asked.targets, confidences, strict=True)
        merged = {**known, **{r.record_id: p for r, p in zip(missing, pairs, strict=True)}}
    found = [merged[record.record_id] for record in held_out.records]
    confidences = tuple(value for _, value in found if value is not None)
    return Answers(
        tuple(target for target, _ in found),
        confidences if len(confidences) == len(found) else (),
    )
