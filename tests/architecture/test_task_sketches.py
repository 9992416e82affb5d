"""Typed sketches of tasks to come: the Task protocol must leave room for them.

They are checked by mypy in `test_sketches_are_typed` and exercised in the tests below: windows of
a long context (question answering), generation (a decoder's text), several heads (one text, two
outputs). None of them is a product task yet.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from contlearn.interfaces import FieldNames, GraphKind, HeadSpec, Task, Tokenizer
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


class _Sketch:
    """What the three have in common: measures by exact match."""

    name: ClassVar[str] = "sketch"
    summary: ClassVar[str] = "a sketch"
    graph: ClassVar[GraphKind] = "token-classification"
    primary_metric: ClassVar[str] = "exact_match"
    metrics: ClassVar[tuple[str, ...]] = ("exact_match",)

    def read_fields(self, row: Mapping[str, object], fields: FieldNames) -> tuple[Inputs, Target]:
        return self.read_inputs(row, fields), str(row["answer"])

    def needed_fields(self, fields: FieldNames) -> tuple[str, ...]:
        return (fields.text, "answer")

    def read_inputs(self, row: Mapping[str, object] | str, fields: FieldNames) -> Inputs:
        return {"text": row} if isinstance(row, str) else {k: str(v) for k, v in row.items()}

    def text_of(self, inputs: Inputs) -> str:
        return " ".join(str(value) for value in inputs.values())

    def labels_of(self, target: Target) -> tuple[str, ...]:
        return ()

    def balance_key(self, target: Target) -> str:
        return ""

    def extend_labels(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
        return space

    def space_from_labels(self, labels: Sequence[str]) -> LabelSpace:
        return LabelSpace(tuple(labels))

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        return (HeadSpec(name="logits", per="sequence", labels=space),)

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        return [(Encoding(input_ids=(1, 2)),) for _ in inputs]

    def encode_target(
        self, target: Target, encodings: tuple[Encoding, ...], space: LabelSpace
    ) -> tuple[int, ...]:
        return (0,)

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        temperature: float,
    ) -> Prediction:
        return ClassPrediction(label="", confidence=1.0, scores={})

    def answer(self, prediction: Prediction) -> Target:
        return prediction.label if isinstance(prediction, ClassPrediction) else ""

    def statistics(
        self, answers: Sequence[Target], targets: Sequence[Target], labels: LabelSpace
    ) -> FloatArray:
        return np.array([[float(a == t), 1.0] for a, t in zip(answers, targets, strict=True)])

    def summarise(self, sums: FloatArray, labels: LabelSpace) -> dict[str, FloatArray]:
        return {"exact_match": sums[..., 0] / sums[..., 1]}

    def per_label(self, sums: FloatArray, labels: LabelSpace) -> tuple[LabelScore, ...]:
        return ()

    def confusion(
        self, answers: Sequence[Target], targets: Sequence[Target]
    ) -> dict[str, object] | None:
        return None


class WindowedAnswers(_Sketch):
    """Question answering: windows of a long context, start and end scores per piece."""

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        ends = LabelSpace(("start", "end"))
        return (HeadSpec(name="logits", per="piece", labels=ends),)

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        windows = []
        for item in inputs:
            ids = [hash(word) % 100 for word in str(item["context"]).split()]
            step = max(1, max_tokens // 2)
            windows.append(
                tuple(
                    Encoding(input_ids=tuple(ids[i : i + max_tokens]))
                    for i in range(0, max(1, len(ids) - step), step)
                )
            )
        return windows

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        temperature: float,
    ) -> Prediction:
        scores = [float(o["logits"][:, 0].max() + o["logits"][:, 1].max()) for o in outputs]
        best = int(np.argmax(scores))
        start = int(outputs[best]["logits"][:, 0].argmax()) + best * (
            len(encodings[0].input_ids) // 2
        )
        word = str(inputs["context"]).split()[start]
        return ClassPrediction(label=word, confidence=1.0, scores={})


class Generated(_Sketch):
    """Translation or summary: the predictor hands over the decoder's ids as one output."""

    graph: ClassVar[GraphKind] = "seq2seq"

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        return (HeadSpec(name="sequences", per="step", labels=space),)

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        temperature: float,
    ) -> Prediction:
        words = [space.names[int(i)] for i in outputs[0]["sequences"]]
        return ClassPrediction(label=" ".join(words), confidence=1.0, scores={})


class TwoHeads(_Sketch):
    """Dialogue: intent of the turn and a domain, from one encoder."""

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        half = len(space) // 2
        return (
            HeadSpec(name="logits", per="sequence", labels=LabelSpace(space.names[:half])),
            HeadSpec(name="domain", per="sequence", labels=LabelSpace(space.names[half:])),
        )

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        temperature: float,
    ) -> Prediction:
        chosen = [h.labels.names[int(outputs[0][h.name].argmax())] for h in self.heads(space)]
        return ClassPrediction(label="/".join(chosen), confidence=1.0, scores={})


SKETCHES: tuple[type[Task], ...] = (WindowedAnswers, Generated, TwoHeads)


def test_sketches_fit_the_protocol():
    for sketch in SKETCHES:
        assert isinstance(sketch(), Task)


def test_windows_of_one_record_become_one_answer():
    task = WindowedAnswers()
    inputs = {"context": "a b c d e f", "question": "which?"}
    (windows,) = task.encode(None, [inputs], 4)  # type: ignore[arg-type]  # no tokenizer needed
    assert len(windows) == 2
    first, second = np.zeros((4, 2)), np.zeros((4, 2))
    second[3, 0] = 5.0
    prediction = task.decode(
        [{"logits": first}, {"logits": second}], windows, inputs, LabelSpace(), 1.0
    )
    assert task.answer(prediction) == "f"


def test_generated_ids_become_text():
    space = LabelSpace(("hello", "world"))
    encodings = (Encoding(input_ids=(1,)),)
    outputs = [{"sequences": np.array([0.0, 1.0])}]
    assert (
        Generated().answer(Generated().decode(outputs, encodings, {}, space, 1.0)) == "hello world"
    )


def test_two_heads_become_one_answer():
    space = LabelSpace(("ask", "tell", "bank", "travel"))
    outputs = [{"logits": np.array([0.0, 1.0]), "domain": np.array([2.0, 1.0])}]
    assert TwoHeads().answer(TwoHeads().decode(outputs, (), {}, space, 1.0)) == "tell/bank"


def test_sketches_are_typed():
    end = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--follow-imports=silent",
            "--no-error-summary",
            "--allow-untyped-defs",
            "--allow-untyped-calls",
            __file__,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert end.returncode == 0, end.stdout
