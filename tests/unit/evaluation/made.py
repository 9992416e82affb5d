"""Made-up answers of a champion and a challenger, for the gate."""

from __future__ import annotations

from contlearn.config import GateConfig
from contlearn.evaluation.answers import score_answers
from contlearn.interfaces import GateEvidence
from contlearn.papers.scores import Answers
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from contlearn.types import HeldOutSet, LabelledRecord, LabelSpace, PairedScores
from contlearn.workspace import SystemClock

LABELS = LabelSpace(("a", "b", "c"))
TASK = TextClassification()
TAGGING = TokenClassification()


def pair(
    targets,
    challenger,
    champion=None,
    *,
    anchor=None,
    index=0,
    is_new=False,
    task=TASK,
    labels=LABELS,
):
    """Score lists of answers on the same rows."""
    place = {"experience": f"c{index}", "index": index}
    baseline = score_answers(Answers(task.baseline(targets)), targets, task, labels, **place)
    return PairedScores(
        **place,
        is_new=is_new,
        challenger=score_answers(Answers(tuple(challenger)), targets, task, labels, **place),
        champion=None
        if champion is None
        else score_answers(Answers(tuple(champion)), targets, task, labels, **place),
        anchor=None
        if anchor is None
        else score_answers(Answers(tuple(anchor)), targets, task, labels, **place),
        majority=baseline.metrics[task.primary_metric],
        baseline=baseline,
        targets=tuple(targets),
    )


def evidence(*pairs, task=TASK, labels=LABELS, metric=None, parity=None, anchor=None, **config):
    return GateEvidence(
        task=task,
        labels=labels,
        sets=pairs,
        metric=metric or task.primary_metric,
        config=GateConfig(**config),
        seed=7,
        parity=parity or {},
        anchor=anchor,
    )


def answers_of(targets, right, generator, labels=LABELS.names):
    """Answer each row right with probability `right`, else with another label."""
    return [
        t if generator.random() < right else generator.choice([n for n in labels if n != t])
        for t in targets
    ]


def paired_answers(rows, *, lost, won, right=0.85, labels=LABELS.names):
    """Answers of which exactly `lost` rows go from right to wrong and `won` the other way."""
    targets = [labels[i % len(labels)] for i in range(rows)]
    wrong = [labels[(i + 1) % len(labels)] for i in range(rows)]
    both_right = round(right * rows) - lost
    champion = [
        t if i < both_right + lost else w
        for i, (t, w) in enumerate(zip(targets, wrong, strict=True))
    ]
    challenger = [
        t if i < both_right or both_right + lost <= i < both_right + lost + won else w
        for i, (t, w) in enumerate(zip(targets, wrong, strict=True))
    ]
    return targets, challenger, champion


def record(number, target, **inputs):
    return LabelledRecord(
        record_id=f"{number:04x}",
        inputs=inputs or {"text": f"text {number}"},
        target=target,
        split="held_out",
        source="made",
        received_at=SystemClock().now(),
    )


def held_out(targets, *, index=0, is_new=False, start=0):
    records = tuple(record(start + i, target) for i, target in enumerate(targets))
    return HeldOutSet(experience=f"c{index}", index=index, records=records, is_new=is_new)


class Scripted:
    """A predictor that answers by a table from text to label, and counts what it is asked."""

    def __init__(self, table, labels=LABELS, default="a"):
        self.table, self.default = table, default
        self.label_space = labels
        self.asked = 0

    def predict(self, inputs):
        from contlearn.tasks.text_classification import class_prediction

        self.asked += len(inputs)
        return [
            class_prediction(
                (label := self.table.get(item["text"], self.default)), 0.75, {label: 0.75}
            )
            for item in inputs
        ]
