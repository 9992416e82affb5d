"""What a task must keep to: its rows, its encodings and its measures are tried on real rows.

Nothing is trained here. `check_task` says in sentences what does not hold; that a task goes through
the whole loop is shown by a workspace, as in the test of `plugins/contlearn-ratings`.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from contlearn.interfaces import FieldKind, FieldNames, RowProblem, Task
from contlearn.targets import target_from_json, target_to_json
from contlearn.tasks.heads import heads_problems
from contlearn.testing.checks import check_class
from contlearn.types import Calibration, Inputs, LabelSpace, Prediction, Target

if TYPE_CHECKING:
    from contlearn.types import Encoding, FloatArray

__all__ = ["check_task"]

_TOKENS: Final = 32
_TINY: Final = 1e-6
_UNKNOWN: Final = "[UNK]"
_GIVES: Final = frozenset(
    ("classes", "confidence", "scores", "class-sums", "probabilities", "energy")
)
# Kinds of fields that inputs are read from; targets are read by their task.
_INPUTS: Final[tuple[FieldKind, ...]] = ("text", "words")
# Of all rows; more different keys than that are one a row, or nearly.
_MOST_KEYS: Final = 0.75
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "BYTES": (str,),
    "FP32": (float, int),
    "INT64": (int,),
    "BOOL": (bool,),
}


def check_task(
    kind: type[Task],
    rows: Sequence[Mapping[str, object]],
    *,
    options: Mapping[str, object] | None = None,
) -> list[str]:
    """Check a task on rows as they come from a file.

    Args:
        kind: The class that a plugin registers.
        rows: Eight right rows at least, with several targets, under the default names of the
            fields.
        options: Of `[model.task_options]`.
    Returns:
        One sentence for each thing that does not hold; none for a task that can be used.
    Example:
        assert check_task(Ratings, [{"text": "fine", "rating": 4}, …]) == []
    """
    problems = check_class("task", kind)
    try:
        task = kind(kind.Options.model_validate(dict(options or {})))  # type: ignore[call-arg]  # a protocol has no constructor
        _Check(task, rows, problems).run()
    except (
        AttributeError, TypeError, ValueError, LookupError, NotImplementedError, RowProblem
    ) as error:  # fmt: skip
        trace = traceback.extract_tb(error.__traceback__)
        mine = [step for step in trace if step.filename != __file__]
        theirs = [step.line for step in trace if step.filename == __file__]
        where = f"{mine[-1].name}, line {mine[-1].lineno}" if mine else str(theirs[-1:])
        problems.append(f"{kind.__name__} raises {type(error).__name__} in {where}: {error}")
    return problems


class _Check:
    """One task with its rows, read."""

    def __init__(
        self, task: Task, rows: Sequence[Mapping[str, object]], problems: list[str]
    ) -> None:
        self.task, self.rows, self.names = task, rows, FieldNames()
        self.problems = problems
        self.records: list[tuple[Inputs, Target]] = []

    def run(self) -> None:
        """Go through all that can be checked; what others build on comes first."""
        task = self.task
        self._class()
        self._rows()
        if len(self.records) < 8 or len({repr(target) for _, target in self.records}) < 2:
            self._need(False, "Give eight rows or more, with several targets.")
            return
        keys = [task.balance_key(target) for _, target in self.records]
        self._repeats(keys, "balance_key", "nothing is balanced, and nothing set aside")
        space = self._outputs()
        encodings = self._encodings(space)
        predictions = self._predictions(space, encodings)
        self._measures(space, [prediction.target for prediction in predictions])
        self._kept(predictions)
        self._served(space, predictions)

    def _need(self, holds: object, otherwise: str) -> None:
        if not holds and otherwise not in self.problems:
            self.problems.append(otherwise)

    def _class(self) -> None:
        task = self.task
        self._need(isinstance(task, Task), "It lacks a part of contlearn.interfaces.Task.")
        names = [metric.name for metric in task.metrics]
        self._need(task.primary_metric in names, "primary_metric is none of metrics.")
        self._need(len(set(names)) == len(names), "A metric stands twice.")
        self._need(task.gives <= _GIVES, f"gives names {sorted(task.gives - _GIVES)}, not known.")
        fields = [field.name for field in task.fields]
        self._need(len(set(fields)) == len(fields), "A field stands twice.")
        self._need(any(field.is_target for field in task.fields), "No field is the target.")
        self._need(not all(field.is_target for field in task.fields), "No field is an input.")
        for field in task.fields:
            self._need(
                field.is_target or field.kind in _INPUTS,
                f"The input {field.name!r} is of the kind {field.kind!r}; {' and '.join(_INPUTS)} "
                "can be read.",
            )

    def _rows(self) -> None:
        task, names = self.task, self.names
        needed = task.needed_fields(names)
        for row in self.rows:
            before = json.dumps(row, default=str)
            inputs, target = task.read_fields(row, names)
            self.records.append((inputs, target))
            self._need(json.dumps(row, default=str) == before, "read_fields changes its row.")
            again = task.write_row(inputs, target, names)
            self._need(
                task.read_fields(json.loads(json.dumps(again)), names) == (inputs, target),
                "read_fields does not read what write_row writes.",
            )
            self._need(
                target_from_json(json.loads(json.dumps(target_to_json(target)))) == target,
                "A target is not the same after JSON: use texts, numbers, tuples and mappings.",
            )
            self._need(task.text_of(inputs).strip(), "text_of gives an empty text.")
            self._need(task.normal_of(inputs).strip(), "normal_of gives an empty text.")
            self._need(isinstance(task.balance_key(target), str), "balance_key is no text.")
            for name in needed:
                self._refuses({k: v for k, v in row.items() if k != name}, f"without {name!r}")

    def _refuses(self, row: Mapping[str, object], what: str) -> None:
        try:
            self.task.read_fields(row, self.names)
        except RowProblem as problem:
            self._need(problem.reason and problem.message, "A RowProblem says nothing.")
        else:
            self._need(False, f"read_fields takes a row {what}.")

    def _outputs(self) -> LabelSpace:
        task, targets = self.task, [target for _, target in self.records]
        half = len(targets) // 2
        first = task.outputs(task.space_from_labels(()), targets[:half])
        space = task.outputs(first, targets[half:])
        self._need(space.names[: len(first)] == first.names, "outputs does not only append.")
        self._need(task.outputs(space, targets) == space, "outputs grows without need.")
        self._need(len(space), "There are no outputs.")
        for problem in heads_problems(task, task.heads(space)):
            self._need(False, problem)
        return space

    def _encodings(self, space: LabelSpace) -> list[tuple[Encoding, ...]]:
        task = self.task
        tokenizer = _tokenizer([task.text_of(inputs) for inputs, _ in self.records])
        inputs = [inputs for inputs, _ in self.records]
        found = task.encode(tokenizer, inputs, _TOKENS)
        self._need(len(found) == len(inputs), "encode gives other than one tuple an input.")
        alone = [task.encode(tokenizer, [one], _TOKENS)[0] for one in inputs]
        self._need(alone == found, "An input is encoded otherwise beside others than alone.")
        for (_, target), parts in zip(self.records, found, strict=True):
            self._need(parts, "encode gives no encoding.")
            self._need(
                all(len(part.input_ids) <= _TOKENS for part in parts),
                "An encoding is longer than max_tokens.",
            )
            rows = sum(_rows_of(self.task, space, part) for part in parts)
            learnt = task.learn(target, parts, space)
            self._need(len(learnt) == rows, "learn gives other than one target a row of scores.")
            self._targets(learnt, space)
        return found

    def _targets(self, learnt: Sequence[Any], space: LabelSpace) -> None:
        loss, width = self.task.heads(space)[0].loss, len(space)
        for target in learnt:
            if loss in ("softmax", "positions"):
                self._need(0 <= int(target) < width, "learn gives a position that is no output.")
            elif loss == "ordinal":
                self._need(0 <= int(target) <= width, "learn gives more steps than there are.")
            elif loss in ("sigmoid", "squared"):
                is_row = isinstance(target, tuple | list) and len(target) == width
                self._need(
                    is_row, f"learn gives no tuple of {width} numbers, one an output, for each row."
                )

    def _predictions(
        self, space: LabelSpace, encodings: Sequence[tuple[Encoding, ...]]
    ) -> list[Prediction]:
        import numpy as np

        task, generator = self.task, np.random.default_rng(0)
        head = task.heads(space)[0]
        predictions = []
        for (inputs, _), parts in zip(self.records, encodings, strict=True):
            outputs = []
            for part in parts:
                rows = _rows_of(task, space, part)
                shape = (len(space),) if head.view == "pooled" else (rows, len(space))
                outputs.append({head.name: generator.normal(size=shape).astype(np.float32)})
            once, twice = (
                task.decode(outputs, parts, inputs, space, Calibration()) for _ in range(2)
            )
            self._need(once == twice, "decode gives two answers to the same scores.")
            predictions.append(once)
            if head.view == "pooled":
                self._without_inputs(outputs, parts, space)
        scores = generator.normal(size=(4, len(space)))
        nothing = task.calibrate(scores[:0], np.zeros(0, dtype=np.int64), space)
        self._need(nothing == Calibration(), "calibrate fits something without rows.")
        return predictions

    def _without_inputs(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        parts: tuple[Encoding, ...],
        space: LabelSpace,
    ) -> None:
        try:
            self.task.decode(outputs, parts, {}, space, Calibration())
        except Exception as error:  # whatever a task raises
            said = f"decode needs the inputs of a pooled head ({type(error).__name__})"
            self._need(False, f"{said}: a request with input_ids has none.")

    def _repeats(self, keys: Sequence[str], what: str, otherwise: str) -> None:
        self._need(
            len(set(keys)) <= _MOST_KEYS * len(keys),
            f"{what} gives another text for nearly every row, so {otherwise}: round the target, or "
            "check with rows whose targets repeat.",
        )

    def _measures(self, space: LabelSpace, answers: Sequence[Target]) -> None:
        import numpy as np

        task = self.task
        targets = [task.stored(target) for _, target in self.records]
        given = [task.stored(answer) for answer in answers]
        labels = task.outputs(task.outputs(LabelSpace(), targets), given)
        counts = task.statistics(given, targets, labels)
        self._need(counts.shape[0] == len(targets), "statistics gives other than a line a row.")
        apart = np.concatenate(
            [task.statistics([a], [t], labels) for a, t in zip(given, targets, strict=True)]
        )
        self._need(np.array_equal(counts, apart), "statistics of a row depend on the others.")
        summary = task.summarise(counts.sum(axis=0), labels)
        stacked = task.summarise(np.stack([counts.sum(axis=0)] * 2), labels)
        baseline = task.baseline(targets)
        self._need(len(baseline) == len(targets), "baseline gives other than an answer a row.")
        for metric in task.metrics:
            self._need(metric.name in summary, f"summarise lacks {metric.name!r}.")
            if metric.name not in summary:
                continue
            value = float(summary[metric.name])
            self._need(math.isfinite(value), f"{metric.name} is no number.")
            self._need(
                np.allclose(stacked[metric.name], value), f"{metric.name} is not over dimensions."
            )
            best, plain, mine = (
                float(metric.oriented(_measure(task, some, targets, labels)[metric.name]))
                for some in (targets, baseline, given)
            )
            self._need(
                best >= max(plain, mine) - _TINY, f"{metric.name} is best for wrong answers."
            )
        for answer, target in zip(given, targets, strict=True):
            self._need(task.agree(target, target), "agree(a, a) is false.")
            self._need(task.credit(target, target) == 1.0, "credit of the target is not 1.")
            self._need(0.0 <= task.credit(answer, target) <= 1.0, "credit is no share.")
            self._need(task.units(target), "units gives nothing.")
        units = [unit for target in targets for unit in task.units(target)]
        self._repeats(units, "units", "knowledge cannot be told from chance")

    def _kept(self, predictions: Sequence[Prediction]) -> None:
        task = self.task
        for (inputs, target), prediction in zip(self.records, predictions, strict=True):
            named = prediction.key or next(iter(prediction.labels), None)
            self._need(
                named == task.key_of(prediction.target),
                "key_of an answer is neither the prediction's key nor its first label.",
            )
            for some in (target, prediction.target):
                written = json.dumps(target_to_json(task.stored(some)), ensure_ascii=False)
                for value in inputs.values():
                    text = value if isinstance(value, str) else " ".join(value)
                    self._need(text not in written, "stored keeps a text of the input.")
            self._need(isinstance(task.shown(target), str), "shown gives no text.")

    def _served(self, space: LabelSpace, predictions: Sequence[Prediction]) -> None:
        task = self.task
        properties = task.schema().get("properties", {})
        outputs = task.tensors(space)
        for prediction in predictions:
            try:
                json.dumps(target_to_json(prediction.value), allow_nan=False)
            except (TypeError, ValueError):
                self._need(False, "A prediction's value is no JSON.")
            self._need(
                not properties or prediction.value.keys() <= properties.keys(),
                "A prediction's value has fields that schema does not name.",
            )
            if "confidence" in task.gives:
                sure = prediction.confidence
                self._need(
                    sure is not None and 0.0 <= sure <= 1.0 + _TINY, "confidence is no probability."
                )
            if "scores" in task.gives:
                scores = prediction.scores or {}
                self._need(
                    scores.keys() == set(space.names) and abs(sum(scores.values()) - 1) < 1e-3,
                    "scores are no probabilities of all outputs.",
                )
            values = task.tensor_values(prediction, space)
            for output in outputs:
                value = values.get(output.name)
                items = [value] if output.width is None else list(value or ())
                self._need(
                    output.width is None or len(items) == output.width,
                    f"The tensor {output.name!r} has another width than it says.",
                )
                self._need(
                    all(isinstance(item, _TYPES[output.datatype]) for item in items),
                    f"The tensor {output.name!r} is no {output.datatype}.",
                )
            self._need(task.cells(prediction.to_json()), "cells gives no row.")


def _measure(
    task: Task, answers: Sequence[Target], targets: Sequence[Target], labels: LabelSpace
) -> dict[str, FloatArray]:
    return task.summarise(task.statistics(answers, targets, labels).sum(axis=0), labels)


def _rows_of(task: Task, space: LabelSpace, encoding: Encoding) -> int:
    pooled = task.heads(space)[0].view == "pooled"
    return 1 if pooled else len(encoding.word_starts)


def _tokenizer(texts: Sequence[str]) -> Any:
    """Make a small tokenizer of these words, which marks begin and end as BERT's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = dict.fromkeys(word for text in texts for word in text.lower().split())
    pieces = {name: place for place, name in enumerate((_UNKNOWN, "[CLS]", "[SEP]", *words))}
    made = Tokenizer(models.WordLevel(pieces, unk_token=_UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made
