"""Text classification: one text, one class."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from contlearn.interfaces import Field, FieldNames, Labelling, Output
from contlearn.statistics.scores import softmax
from contlearn.tasks.base import TaskBase
from contlearn.tasks.others import (
    foreign_name,
    pair_fields,
    read_choices,
    refuse_pair,
    whole_number,
)
from contlearn.tasks.rows import clean_label, need_field
from contlearn.types import (
    Calibration,
    Encoding,
    Inputs,
    LabelScore,
    LabelSpace,
    Metric,
    Prediction,
    Target,
    label_name,
)
from contlearn.wording import percent, quoted

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["TextClassification", "class_prediction"]

_SHOWN = 80


def class_prediction(label: str, confidence: float, scores: Mapping[str, float]) -> Prediction:
    """Make the prediction of a class with the calibrated probability of every class."""
    return Prediction(
        value={"label": label, "confidence": confidence, "scores": scores},
        target=label,
        labels=(label,),
        confidence=confidence,
    )


class TextClassification(TaskBase):
    """One class for each text.

    Statistics of a row, for C labels: (row is right, true positive per label, expected per label,
    predicted per label), so S = 1 + 3 C.
    """

    name: ClassVar[str] = "text-classification"
    summary: ClassVar[str] = "one class for each text"
    pipeline: ClassVar[str | None] = "text-classification"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "text", example="where is my parcel?"),
        Field("label", "label", is_target=True),
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="accuracy", is_share_of_rows=True),
        Metric(name="macro_f1"),
        Metric(name="micro_f1"),
    )
    primary_metric: ClassVar[str] = "accuracy"
    gives: ClassVar[frozenset[str]] = frozenset(
        ("classes", "confidence", "scores", "class-sums", "probabilities", "energy")
    )
    labelling: ClassVar[Labelling] = "choice"

    def tidy(
        self, row: Mapping[str, object], names: FieldNames, known: Container[str]
    ) -> tuple[Mapping[str, object], tuple[tuple[str, str], ...]]:
        """Look at a label that is not known as it stands, and refuse pairs.

        Blanks around it are left out. A number, or several labels in one, belong to another task,
        whatever format they come in; unless the configuration or a record names them.

        Raises:
            RowProblem: wrong-type, other-task.
        """
        said: tuple[tuple[str, str], ...] = ()
        label = row.get(names.label)
        if type(label) is not str or label not in known:
            row, said = self._named(row, label, names.label, known)
        for second in pair_fields(names.text):
            if row.get(second):
                raise refuse_pair(names.text, second, self.name)
        return row, said

    def _named(
        self, row: Mapping[str, object], label: object, field: str, known: Container[str]
    ) -> tuple[Mapping[str, object], tuple[tuple[str, str], ...]]:
        if isinstance(label, str):
            name = label_name(label)
            if not name:
                return row, ()
            if name not in known:
                whole = whole_number(name)
                if whole is not None and whole in known:
                    name = whole
                else:
                    problem = foreign_name(name, known, field, self.name)
                    if problem is not None:
                        raise problem
            if name == label:
                return row, ()
            edges = label.strip() != label or label[0] == "\ufeff" or label[-1] == "\ufeff"
            said = f"The blanks around the label {quoted(label, _SHOWN)} are left out."
            return {**row, field: name}, (("blanks", said),) if edges else ()
        whole = whole_number(label)
        if whole is not None and whole in known:
            said = f"The number {whole} is kept as the label {whole!r}, which is named."
            return {**row, field: whole}, (("number", said),)
        if isinstance(label, Mapping) and (choices := read_choices(label)) and len(choices) == 1:
            return {**row, field: choices[0]}, ()
        return row, ()

    def read_target(self, row: Mapping[str, object], names: FieldNames) -> Target:
        """Take the class out of a row."""
        return clean_label(need_field(row, names.label), names.label, self.name)

    def read_fields(self, row: Mapping[str, object], names: FieldNames) -> tuple[Inputs, Target]:
        """Take the text and its class out of a row."""
        label = self.read_target(row, names)
        return self.read_inputs(row, names), label

    def labels_of(self, target: Target) -> tuple[str, ...]:
        """Give the class."""
        return (_class(target),)

    def labels_in(self, row: Mapping[str, object], names: FieldNames) -> frozenset[str]:
        """Give the class as it came."""
        value = row.get(names.label)
        found = (unicodedata.normalize("NFC", value),) if isinstance(value, str) else ()
        return frozenset(found)

    def renamed(self, target: Target, names: Mapping[str, str]) -> Target:
        """Give the other class."""
        return names.get(_class(target), target)

    def balance_key(self, target: Target) -> str:
        """Balance replay over classes."""
        return _class(target)

    def learn(
        self, target: Target, encodings: tuple[Encoding, ...], space: LabelSpace
    ) -> tuple[int, ...]:
        """Give the position of the class."""
        return (space.names.index(_class(target)),)

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        calibration: Calibration,
    ) -> Prediction:
        """Give the most probable class, with the calibrated probability of each."""
        import numpy as np

        logits = np.asarray(outputs[0]["logits"], dtype=np.float64)
        probabilities = softmax(logits, calibration.temperature)
        best = int(logits.argmax())
        return class_prediction(
            space.names[best],
            float(probabilities[best]),
            dict(zip(space.names, probabilities.tolist(), strict=True)),
        )

    def baseline(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Answer always the commonest class.

        Example:
            >>> TextClassification().baseline(["yes", "no", "yes"])
            ('yes', 'yes', 'yes')
        """
        counts = Counter(map(_class, targets))
        # Ties go to the first name, so that the same rows give the same answer.
        commonest = min(counts, key=lambda name: (-counts[name], name), default="")
        return (commonest,) * len(targets)

    def statistics(
        self, answers: Sequence[Target], targets: Sequence[Target], labels: LabelSpace
    ) -> FloatArray:
        """Count, for each row, whether it is right and which class was expected and predicted."""
        import numpy as np

        index, size = labels.index(), len(labels)
        counts = np.zeros((len(targets), 1 + 3 * size), dtype=np.float32)
        for row, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            expected, predicted = index[_class(target)], index[_class(answer)]
            if expected == predicted:
                counts[row, 0] = 1
                counts[row, 1 + expected] = 1
            counts[row, 1 + size + expected] = 1
            counts[row, 1 + 2 * size + predicted] = 1
        return counts

    def summarise(self, sums: FloatArray, labels: LabelSpace) -> dict[str, FloatArray]:
        """Give accuracy, macro F1 (over the classes that occur) and micro F1.

        With one class a text, micro F1 equals accuracy. Source: scikit-learn's f1_score.
        """
        import numpy as np

        right, hits, expected, predicted = _split(np.asarray(sums, dtype=np.float64), len(labels))
        total = expected.sum(axis=-1)
        occurs = expected + predicted > 0
        f1 = np.divide(2 * hits, expected + predicted, out=np.zeros_like(hits), where=occurs)
        accuracy = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
        macro = f1.sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1)
        return {"accuracy": accuracy, "macro_f1": macro, "micro_f1": accuracy}

    def per_label(self, sums: FloatArray, labels: LabelSpace) -> tuple[LabelScore, ...]:
        """Give precision, recall and F1 of every class that occurs."""
        import numpy as np

        _, hits, expected, predicted = _split(np.asarray(sums, dtype=np.float64), len(labels))
        return tuple(
            LabelScore(
                label=name,
                precision=float(hits[i] / predicted[i]) if predicted[i] else 0.0,
                recall=float(hits[i] / expected[i]) if expected[i] else 0.0,
                f1=float(2 * hits[i] / (expected[i] + predicted[i])),
                support=int(expected[i]),
            )
            for i, name in enumerate(labels.names)
            if expected[i] + predicted[i] > 0
        )

    def confusion(
        self, answers: Sequence[Target], targets: Sequence[Target]
    ) -> dict[str, object] | None:
        """Count each pair of expected class (row) and predicted class (column)."""
        names = sorted({_class(t) for t in targets} | {_class(a) for a in answers})
        index = {name: i for i, name in enumerate(names)}
        matrix = [[0] * len(names) for _ in names]
        for answer, target in zip(answers, targets, strict=True):
            matrix[index[_class(target)]][index[_class(answer)]] += 1
        return {"labels": names, "matrix": matrix}

    def cells(self, value: Mapping[str, Any]) -> tuple[dict[str, str | float], ...]:
        """Give label and confidence."""
        return ({"label": value["label"], "confidence": percent(value["confidence"])},)

    def schema(self) -> dict[str, Any]:
        """Describe label, confidence and scores, and what the server adds."""
        return {
            "type": "object",
            "required": ["label", "confidence", "scores"],
            "properties": {
                "label": {"type": "string"},
                "confidence": {"type": "number", "minimum": 0, "maximum": 1.000001},
                "scores": {"type": "object", "additionalProperties": {"type": "number"}},
                "unknown": {"type": "boolean"},
                "truncated": {"type": "boolean"},
            },
        }

    def tensors(self, space: LabelSpace) -> tuple[Output, ...]:
        """Name label, confidence and the scores in the order of the labels."""
        return (
            Output("label", "BYTES"),
            Output("confidence", "FP32"),
            Output("scores", "FP32", len(space)),
        )

    def tensor_values(self, prediction: Prediction, space: LabelSpace) -> dict[str, Any]:
        """Give them."""
        scores = prediction.scores or {}
        return {
            "label": prediction.target,
            "confidence": prediction.confidence,
            "scores": [scores.get(name, 0.0) for name in space.names],
        }


def _class(target: Target) -> str:
    if not isinstance(target, str):
        raise TypeError("a class is one text")
    return target


def _split(sums: FloatArray, size: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    return (
        sums[..., 0],
        sums[..., 1 : 1 + size],
        sums[..., 1 + size : 1 + 2 * size],
        sums[..., 1 + 2 * size : 1 + 3 * size],
    )
