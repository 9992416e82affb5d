"""What most tasks have in common: a task overrides what is its own.

A task whose rows hold texts, and whose target is one value beside them, needs little more than its
outputs, `learn`, `decode` and its measures; `contlearn.testing.check_task` says what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from contlearn.interfaces import (
    Field,
    FieldNames,
    HeadSpec,
    Labelling,
    Output,
    Relation,
    RowProblem,
    Tokenizer,
)
from contlearn.targets import target_to_json
from contlearn.tasks.beginnings import encode_texts
from contlearn.tasks.rows import clean_text, clean_words, need_field, normal_text
from contlearn.tasks.vocabulary import unknown_id
from contlearn.types import (
    Calibration,
    Encoding,
    Inputs,
    LabelScore,
    LabelSpace,
    Metric,
    Prediction,
    Target,
)

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["NoOptions", "TaskBase", "TaskOptions"]

_SHOWN_CHARACTERS = 200


class TaskOptions(BaseModel):
    """Options of a task, `[model.task_options]`; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoOptions(TaskOptions):
    """None."""


class TaskBase:
    """The defaults: texts in, one value out, one head on the pooled vector.

    Args:
        options: The checked `[model.task_options]`; those of the defaults if left out.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    family: ClassVar[Literal["encoder", "encoder-decoder"]] = "encoder"
    Options: ClassVar[type[BaseModel]] = NoOptions
    pipeline: ClassVar[str | None] = None
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "text", example="where is my parcel?"),
        Field("label", "label", is_target=True),
    )
    metrics: ClassVar[tuple[Metric, ...]]
    primary_metric: ClassVar[str]
    gives: ClassVar[frozenset[str]] = frozenset()
    labelling: ClassVar[Labelling] = "value"
    key_separator: ClassVar[str | None] = None
    relation: ClassVar[Relation] = "conflict"
    label_reason: ClassVar[str] = "unknown-label"

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = self.Options() if options is None else options

    # -- rows ------------------------------------------------------------------------------------

    def needed_fields(self, names: FieldNames) -> tuple[str, ...]:
        """Name the fields that a labelled row must have, as the configuration calls them."""
        return tuple(names.of(field.name) for field in self.fields)

    def tidy(
        self, row: Mapping[str, object], names: FieldNames, known: Container[str]
    ) -> tuple[Mapping[str, object], tuple[tuple[str, str], ...]]:
        """Leave the row as it is."""
        return row, ()

    def read_fields(self, row: Mapping[str, object], names: FieldNames) -> tuple[Inputs, Target]:
        """Read the inputs, and the target by `read_target`."""
        return self.read_inputs(row, names), self.read_target(row, names)

    def read_target(self, row: Mapping[str, object], names: FieldNames) -> Target:
        """Read what a person answered.

        Raises:
            RowProblem: When it is missing or wrong.
        """
        raise NotImplementedError  # a task reads its own, or overrides read_fields

    def read_inputs(self, row: Mapping[str, object] | str, names: FieldNames) -> Inputs:
        """Take the texts out of a row; a bare text is taken where one field is all there is."""
        inputs = [field for field in self.fields if not field.is_target]
        if isinstance(row, str):
            if len(inputs) > 1:
                wanted = ", ".join(names.of(field.name) for field in inputs)
                raise RowProblem(
                    "missing-field",
                    f"A bare text is given, where {wanted} are needed.",
                    "Give an object with these fields.",
                )
            row = {names.of(inputs[0].name): row}
        return {field.name: self._read_input(row, field, names) for field in inputs}

    def _read_input(
        self, row: Mapping[str, object], field: Field, names: FieldNames
    ) -> str | tuple[str, ...]:
        name = names.of(field.name)
        value = need_field(row, name)
        return clean_text(value, name) if field.kind == "text" else clean_words(value, name)

    def write_row(self, inputs: Inputs, target: Target, names: FieldNames) -> dict[str, Any]:
        """Write inputs and target under the configured names."""
        row: dict[str, Any] = {names.of(name): value for name, value in inputs.items()}
        (answer,) = [field for field in self.fields if field.is_target]
        return {**row, names.of(answer.name): target_to_json(target)}

    def join(self, inputs: Inputs, answer: object, names: FieldNames) -> dict[str, Any]:
        """Put the answer into the field of the target."""
        row: dict[str, Any] = {names.of(name): value for name, value in inputs.items()}
        (field,) = [field for field in self.fields if field.is_target]
        return {**row, names.of(field.name): answer}

    def probe(self, text: str) -> Inputs:
        """Put the text, or its words, into every field."""
        return {
            field.name: text if field.kind == "text" else tuple(text.split())
            for field in self.fields
            if not field.is_target
        }

    def text_of(self, inputs: Inputs) -> str:
        """Give the texts, one after the other, in the order of the fields."""
        values = [inputs[field.name] for field in self.fields if field.name in inputs]
        return " ".join(v if isinstance(v, str) else " ".join(v) for v in values)

    def normal_of(self, inputs: Inputs) -> str:
        """Give all inputs in their normal form, named where there are several."""
        if len(inputs) == 1:
            (value,) = inputs.values()
            return normal_text(value) if isinstance(value, str) else _joined(value)
        return "\x1e".join(
            name + "\x1f" + _joined((value,) if isinstance(value, str) else value)
            for name, value in sorted(inputs.items())
        )

    # -- labels ----------------------------------------------------------------------------------

    def labels_of(self, target: Target) -> tuple[str, ...]:
        """Give none: a value has no name."""
        return ()

    def labels_in(self, row: Mapping[str, object], names: FieldNames) -> frozenset[str]:
        """Give none."""
        return frozenset()

    def labels_of_key(self, key: str) -> tuple[str, ...]:
        """Give what the separator parts."""
        return (key,) if self.key_separator is None else tuple(key.split(self.key_separator))

    def label_names(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Give the outputs themselves."""
        return tuple(outputs)

    def renamed(self, target: Target, names: Mapping[str, str]) -> Target:
        """Leave a target without names as it is."""
        return target

    def balance_key(self, target: Target) -> str:
        """Balance over the target as it is written."""
        return target if isinstance(target, str) else json.dumps(target_to_json(target))

    def outputs(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
        """Append the labels that are new, sorted by name."""
        return space.extended(
            sorted({name for target in targets for name in self.labels_of(target)})
        )

    def space_from_labels(self, labels: Sequence[str]) -> LabelSpace:
        """Use the labels as they are."""
        return LabelSpace(tuple(labels))

    # -- model -----------------------------------------------------------------------------------

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        """Give one row of scores a text, of which one is right."""
        return (HeadSpec(name="logits", outputs=space),)

    def special_pieces(self) -> tuple[str, ...]:
        """Add none."""
        return ()

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        """Tokenise texts; what is over the limit is cut, keeping the closing special piece.

        A long text is tokenised only as far as it is read.
        """
        unknown = unknown_id(tokenizer)
        encodings: list[tuple[Encoding, ...]] = []
        texts = [self.text_of(item) for item in inputs]
        for item in encode_texts(tokenizer, texts, max_tokens):
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

    def calibrate(self, rows: FloatArray, targets: Any, space: LabelSpace) -> Calibration:
        """Fit the temperature where one output of a row is right; else there is nothing to fit.

        Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
        """
        import numpy as np

        from contlearn.statistics.calibration import fit_temperature

        if self.heads(space)[0].loss != "softmax" or not len(rows):
            return Calibration()
        return Calibration(temperature=fit_temperature(rows, np.asarray(targets)))

    # -- measures --------------------------------------------------------------------------------

    def agree(self, first: Target, second: Target) -> bool:
        """Let answers be the same when they are equal."""
        return first == second

    def credit(self, answer: Target, target: Target) -> float:
        """Give 1 for the very target, else 0."""
        return float(answer == target)

    def key_of(self, target: Target) -> str:
        """Give a text or a number as it is written, and of anything else a hash."""
        if isinstance(target, str | int | float):
            return str(target)
        text = json.dumps(target_to_json(target), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]

    def units(self, target: Target) -> tuple[str, ...]:
        """Take the whole answer as one thing that is right or wrong."""
        return (self.balance_key(target),)

    def unit_label(self, unit: str) -> str | None:
        """Let a unit stand for itself."""
        return unit

    def baseline(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Answer always the commonest target; ties go to the first in order."""
        written = [json.dumps(target_to_json(target), sort_keys=True) for target in targets]
        counts = Counter(written)
        best = min(counts, key=lambda text: (-counts[text], text), default=None)
        found = None if best is None else targets[written.index(best)]
        return tuple(found for _ in targets if found is not None)

    def per_label(self, sums: FloatArray, labels: LabelSpace) -> tuple[LabelScore, ...]:
        """Give none."""
        return ()

    def confusion(
        self, answers: Sequence[Target], targets: Sequence[Target]
    ) -> dict[str, object] | None:
        """Give none."""
        return None

    # -- what is kept and shown ------------------------------------------------------------------

    def stored(self, target: Target) -> Target:
        """Give the target itself: a task whose answers are texts overrides this."""
        return target

    def shown(self, target: Target, words: Sequence[str] | None = None) -> str:
        """Write the target as JSON would, a text as it is."""
        text = (
            target
            if isinstance(target, str)
            else json.dumps(target_to_json(target), ensure_ascii=False)
        )
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"

    def cells(self, value: Mapping[str, Any]) -> tuple[dict[str, str | float], ...]:
        """Give one row with the value's texts and numbers, and anything else as JSON."""
        return (
            {
                name: item
                if isinstance(item, str | float | int)
                else json.dumps(target_to_json(item), ensure_ascii=False)
                for name, item in value.items()
            },
        )

    def schema(self) -> dict[str, Any]:
        """Give the schema of any object."""
        return {"type": "object"}

    def tensors(self, space: LabelSpace) -> tuple[Output, ...]:
        """Give the whole value, as JSON in one tensor."""
        return (Output("prediction", "BYTES"),)

    def tensor_values(self, prediction: Prediction, space: LabelSpace) -> dict[str, Any]:
        """Write the value as JSON."""
        return {"prediction": json.dumps(target_to_json(prediction.value), ensure_ascii=False)}


def _joined(words: Sequence[str]) -> str:
    return "\x1f".join(map(normal_text, words))
