"""The kit's check of a task: the built-in tasks keep to it, and each breach has its sentence."""

from __future__ import annotations

import itertools

import pytest

from contlearn.interfaces import Field, HeadSpec, RowProblem
from contlearn.tasks.text_classification import TextClassification, class_prediction
from contlearn.tasks.token_classification import TokenClassification
from contlearn.testing import check_task
from contlearn.types import LabelSpace, Metric

TEXTS = [f"the parcel number {number} came late and was wet" for number in range(9)]
CLASSES = [{"text": text, "label": "abc"[i % 3]} for i, text in enumerate(TEXTS)]
COUNT = itertools.count()
CHOICES = [{**row, "options": ["a", "b"]} for row in CLASSES]
TAGS = [
    {"tokens": text.split(), "tags": ["B-thing" if j == i % 4 else "O" for j in range(9)]}
    for i, text in enumerate(TEXTS)
]


@pytest.mark.parametrize(
    ("kind", "rows"), [(TextClassification, CLASSES), (TokenClassification, TAGS)]
)
def test_built_in_tasks_keep_to_the_kit(kind, rows):
    assert check_task(kind, rows) == []


class Shifting(TextClassification):
    """Adds outputs in front of those that were there."""

    def outputs(self, space, targets):
        return LabelSpace((f"new {len(space)}", *super().outputs(space, targets).names))


class Talkative(TextClassification):
    """Remembers the text with the answer."""

    def stored(self, target):
        return f"{target} {TEXTS[0]} {' '.join(TEXTS)}"


class Backward(TextClassification):
    """Says of accuracy that less is better."""

    metrics = (Metric(name="accuracy", higher_is_better=False),)


class Lenient(TextClassification):
    """Takes rows without a label."""

    def read_target(self, row, names):
        return row.get(names.label, "none")


class TooSure(TextClassification):
    """Is surer than sure."""

    def decode(self, *arguments):
        found = super().decode(*arguments)
        return class_prediction(found.target, 1.5, found.scores)


class Neighbourly(TokenClassification):
    """Counts the first row for all."""

    def statistics(self, answers, targets, labels):
        counts = super().statistics(answers, targets, labels)
        counts[:] = counts[0]
        return counts


class Speechless(TextClassification):
    """Names a tensor that it does not give."""

    def tensor_values(self, prediction, space):
        return {"label": prediction.target}


class Lossy(TextClassification):
    """Writes another label than it read."""

    def write_row(self, inputs, target, names):
        return super().write_row(inputs, target + "s", names)


class Renamed(TextClassification):
    """Calls its head otherwise, and is of one mind about it."""

    def heads(self, space):
        return (HeadSpec(name="score", outputs=space),)

    def decode(self, outputs, *more):
        return super().decode([{"logits": one["score"]} for one in outputs], *more)


class Untrained(TextClassification):
    """Has two heads, one of a view and a loss that nothing trains, and more."""

    family = "encoder-decoder"

    def heads(self, space):
        second = HeadSpec(name="logits", outputs=space, view="decoder", loss="next-piece")
        return (*super().heads(space), second)

    def special_pieces(self):
        return ("[TURN]",)


class Curious(TextClassification):
    """Looks at the text when it decodes."""

    def decode(self, outputs, encodings, inputs, *more):
        assert inputs["text"]
        return super().decode(outputs, encodings, inputs, *more)


class Chosen(TextClassification):
    """Has an input of a kind that nothing reads."""

    fields = (*TextClassification.fields, Field("options", "choices"))


class Single(TextClassification):
    """Balances over everything, and takes each answer for a thing of its own."""

    def balance_key(self, target):
        return f"{target} {next(COUNT)}"


class Refusing(TextClassification):
    """Refuses right rows."""

    def read_target(self, row, names):
        raise RowProblem("wrong-type", "Never right.", "Give up.")


@pytest.mark.parametrize(
    ("kind", "rows", "said"),
    [
        (Shifting, CLASSES, "outputs does not only append"),
        (Talkative, CLASSES, "stored keeps a text of the input"),
        (Backward, CLASSES, "accuracy is best for wrong answers"),
        (Lenient, CLASSES, "read_fields takes a row without 'label'"),
        (TooSure, CLASSES, "confidence is no probability"),
        (Neighbourly, TAGS, "statistics of a row depend on the others"),
        (Speechless, CLASSES, "The tensor 'confidence' is no FP32"),
        (Lossy, CLASSES, "read_fields does not read what write_row writes"),
        (Renamed, CLASSES, "The name of the head is 'score'; it can be logits."),
        (Untrained, CLASSES, "There are 2 heads; one can be trained."),
        (Untrained, CLASSES, "The view of the head is 'decoder'"),
        (Untrained, CLASSES, "The loss of the head is 'next-piece'"),
        (Untrained, CLASSES, "The pieces '[TURN]' are the task's own"),
        (Untrained, CLASSES, "The family is 'encoder-decoder'"),
        (Curious, CLASSES, "decode needs the inputs of a pooled head (KeyError)"),
        (Chosen, CHOICES, "The input 'options' is of the kind 'choices'; text and words can be"),
        (Single, CLASSES, "balance_key gives another text for nearly every row"),
        (Single, CLASSES, "units gives another text for nearly every row"),
        (Refusing, CLASSES, "Refusing raises RowProblem in read_target"),
    ],
)
def test_breach_is_said(kind, rows, said):
    assert any(said in problem for problem in check_task(kind, rows)), check_task(kind, rows)


def test_too_few_rows_are_said():
    assert check_task(TextClassification, CLASSES[:3]) == [
        "Give eight rows or more, with several targets."
    ]
