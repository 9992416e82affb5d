"""Text classification: one text, one class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from contlearn.interfaces import FieldNames, GraphKind, HeadSpec, RowProblem, Tokenizer
from contlearn.statistics.scores import softmax
from contlearn.tasks.rows import clean_label, clean_text, need_field
from contlearn.tasks.vocabulary import unknown_id
from contlearn.types import (
    ClassPrediction,
    Encoding,
    Inputs,
    LabelScore,
    LabelSpace,
    Prediction,
    Target,
)

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["TextClassification"]


class TextClassification:
    """One class for each text.

    Statistics of a row, for C labels: (row is right, true positive per label, expected per label,
    predicted per label), so S = 1 + 3 C.
    """

    name: ClassVar[str] = "text-classification"
    summary: ClassVar[str] = "one class for each text"
    graph: ClassVar[GraphKind] = "sequence-classification"
    primary_metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "micro_f1")

    def needed_fields(self, fields: FieldNames) -> tuple[str, ...]:
        """Name the fields that a labelled row must have."""
        return (fields.text, fields.label)

    def read_fields(self, row: Mapping[str, object], fields: FieldNames) -> tuple[Inputs, Target]:
        """Take the text and its class out of a row."""
        label = clean_label(need_field(row, fields.label), fields.label, self.name)
        return self.read_inputs(row, fields), label

    def read_inputs(self, row: Mapping[str, object] | str, fields: FieldNames) -> Inputs:
        """Take the text out of a row, or take a bare text."""
        value = row if isinstance(row, str) else need_field(row, fields.text)
        return {"text": clean_text(value, fields.text)}

    def text_of(self, inputs: Inputs) -> str:
        """Give the text."""
        text = inputs["text"]
        return text if isinstance(text, str) else " ".join(text)

    def labels_of(self, target: Target) -> tuple[str, ...]:
        """Give the class."""
        return (_class(target),)

    def balance_key(self, target: Target) -> str:
        """Balance replay over classes."""
        return _class(target)

    def extend_labels(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
        """Append the classes that are new, sorted by name."""
        return space.extended(sorted({_class(target) for target in targets}))

    def space_from_labels(self, labels: Sequence[str]) -> LabelSpace:
        """Use the classes as they are."""
        return LabelSpace(tuple(labels))

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        """One row of class scores a text."""
        return (HeadSpec(name="logits", per="sequence", labels=space),)

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        """Tokenise texts; what is over the limit is cut, keeping the closing special piece."""
        unknown = unknown_id(tokenizer)
        encodings: list[tuple[Encoding, ...]] = []
        for item in tokenizer.encode_batch([self.text_of(i) for i in inputs]):
            ids = item.ids
            truncated = len(ids) > max_tokens
            if truncated:
                ids = ids[: max_tokens - 1] + ids[-1:]
            encodings.append(
                (
                    Encoding(
                        input_ids=tuple(ids),
                        truncated=truncated,
                        unknown_pieces=ids.count(unknown) if unknown is not None else 0,
                    ),
                )
            )
        return encodings

    def encode_target(
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
        temperature: float,
    ) -> Prediction:
        """Give the most probable class, with the calibrated probability of each."""
        import numpy as np

        logits = np.asarray(outputs[0]["logits"], dtype=np.float64)
        probabilities = softmax(logits, temperature)
        best = int(logits.argmax())
        return ClassPrediction(
            label=space.names[best],
            confidence=float(probabilities[best]),
            scores=dict(zip(space.names, probabilities.tolist(), strict=True)),
        )

    def answer(self, prediction: Prediction) -> Target:
        """Give the class."""
        if not isinstance(prediction, ClassPrediction):
            raise TypeError("not a classification")
        return prediction.label

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


def _class(target: Target) -> str:
    if not isinstance(target, str):
        raise RowProblem("wrong-type", "A class is one text.", "Give one label a row.")
    return target


def _split(sums: FloatArray, size: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    return (
        sums[..., 0],
        sums[..., 1 : 1 + size],
        sums[..., 1 + size : 1 + 2 * size],
        sums[..., 1 + 2 * size : 1 + 3 * size],
    )
