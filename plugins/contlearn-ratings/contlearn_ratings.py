"""A task: ratings of texts on an ordered scale, such as one to five stars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from contlearn.interfaces import Field, FieldNames, HeadSpec, Output, RowProblem
from contlearn.plugins import hookimpl
from contlearn.tasks.base import TaskBase, TaskOptions
from contlearn.tasks.others import whole_number
from contlearn.tasks.rows import need_field
from contlearn.types import Calibration, Encoding, Inputs, LabelSpace, Metric, Prediction, Target

if TYPE_CHECKING:
    from contlearn.types import FloatArray

# Temperatures that are tried; a finer one changes no rating.
_TEMPERATURES = tuple(1.25**step for step in range(-8, 13))


class Scale(TaskOptions):
    """[model.task_options]: the least and the greatest rating."""

    lowest: int = 1
    highest: int = 5

    @model_validator(mode="after")
    def _has_steps(self) -> Scale:
        if self.highest <= self.lowest:
            raise ValueError("highest must be above lowest")
        return self


class Ratings(TaskBase):
    """One whole number for each text, from a scale whose order means something.

    The head has one output for each step of the scale: whether a text reaches it. Statistics of a
    row: (distance between the ratings, rating is right, is at most one off, 1).
    """

    name: ClassVar[str] = "ratings"
    summary: ClassVar[str] = "a rating of each text, on an ordered scale"
    Options: ClassVar[type[TaskOptions]] = Scale
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "text", example="the room was clean and quiet"),
        Field("rating", "number", is_target=True, example=4),
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="mean_distance", higher_is_better=False, unit="points"),
        Metric(name="accuracy", is_share_of_rows=True),
        Metric(name="within_one"),
    )
    primary_metric: ClassVar[str] = "mean_distance"
    gives: ClassVar[frozenset[str]] = frozenset(("confidence",))

    options: Scale

    def read_target(self, row: Mapping[str, object], names: FieldNames) -> Target:
        """Take the rating: a whole number of the scale, also as text."""
        name = names.of("rating")
        whole = whole_number(need_field(row, name))
        if whole is None or not self.options.lowest <= int(whole) <= self.options.highest:
            raise RowProblem(
                "wrong-type",
                f"The field {name!r} is {str(row[name])[:40]!r}, no whole number from "
                f"{self.options.lowest} to {self.options.highest}.",
                "Correct it, or set lowest and highest in [model.task_options].",
            )
        return int(whole)

    def outputs(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
        """Give every step of the scale at once, whichever ratings came."""
        return space.extended(self._steps())

    def space_from_labels(self, labels: Sequence[str]) -> LabelSpace:
        """Give every step of the scale: a scale is a closed set already."""
        return LabelSpace(self._steps())

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        """Give one row of scores a text, of steps that are reached or not."""
        return (HeadSpec(name="logits", outputs=space, loss="ordinal"),)

    def learn(
        self, target: Target, encodings: tuple[Encoding, ...], space: LabelSpace
    ) -> tuple[int, ...]:
        """Give how many steps the rating reaches."""
        return (_rating(target) - self.options.lowest,)

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        calibration: Calibration,
    ) -> Prediction:
        """Give the rating, its probability, and the rating that is to be expected on average."""
        import numpy as np

        logits = np.asarray(outputs[0]["logits"], dtype=np.float64) / calibration.temperature
        # A step cannot be reached more surely than the one below it.
        reached = np.minimum.accumulate(1.0 / (1.0 + np.exp(-logits)))
        steps = int((reached > 0.5).sum())
        rating = self.options.lowest + steps
        above = float(reached[steps]) if steps < len(reached) else 0.0
        confidence = (float(reached[steps - 1]) if steps else 1.0) - above
        expected = self.options.lowest + float(reached.sum())
        return Prediction(
            value={"rating": rating, "confidence": confidence, "expected": expected},
            target=rating,
            labels=(str(rating),),
            confidence=confidence,
        )

    def calibrate(self, rows: FloatArray, targets: Any, space: LabelSpace) -> Calibration:
        """Choose the temperature under which the steps are told best."""
        import numpy as np

        if not len(rows):
            return Calibration()
        reached = np.arange(rows.shape[1]) < np.asarray(targets)[:, None]
        signs = np.where(reached, 1.0, -1.0)

        def loss(temperature: float) -> float:
            return float(np.logaddexp(0.0, -signs * rows / temperature).mean())

        return Calibration(temperature=min(_TEMPERATURES, key=loss))

    def credit(self, answer: Target, target: Target) -> float:
        """Give less for each step between the ratings, and nothing for the whole scale."""
        scale = self.options.highest - self.options.lowest
        return 1.0 - abs(_rating(answer) - _rating(target)) / scale

    def baseline(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Answer always the middle one of the ratings: none is nearer to all of them."""
        ordered = sorted(map(_rating, targets))
        return (ordered[(len(ordered) - 1) // 2],) * len(ordered) if ordered else ()

    def statistics(
        self, answers: Sequence[Target], targets: Sequence[Target], labels: LabelSpace
    ) -> FloatArray:
        """Measure the distance of each answer."""
        import numpy as np

        pairs = zip(answers, targets, strict=True)
        far = np.array([abs(_rating(a) - _rating(t)) for a, t in pairs], dtype=np.float32)
        return np.stack([far, far == 0, far <= 1, np.ones_like(far)], axis=1).astype(np.float32)

    def summarise(self, sums: FloatArray, labels: LabelSpace) -> dict[str, FloatArray]:
        """Divide by the number of rows."""
        import numpy as np

        sums = np.asarray(sums, dtype=np.float64)
        rows = np.maximum(sums[..., 3], 1)
        names = [metric.name for metric in self.metrics]
        return {name: sums[..., i] / rows for i, name in enumerate(names)}

    def schema(self) -> dict[str, Any]:
        """Describe the three numbers."""
        scale = {"minimum": self.options.lowest, "maximum": self.options.highest}
        return {
            "type": "object",
            "required": ["rating", "confidence", "expected"],
            "properties": {
                "rating": {"type": "integer", **scale},
                "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                "expected": {"type": "number", **scale},
                "truncated": {"type": "boolean"},
            },
        }

    def tensors(self, space: LabelSpace) -> tuple[Output, ...]:
        """Name the three numbers."""
        return (
            Output("rating", "INT64"),
            Output("confidence", "FP32"),
            Output("expected", "FP32"),
        )

    def tensor_values(self, prediction: Prediction, space: LabelSpace) -> dict[str, Any]:
        """Give them."""
        return dict(prediction.value)

    def _steps(self) -> tuple[str, ...]:
        scale = range(self.options.lowest + 1, self.options.highest + 1)
        return tuple(f"at least {number}" for number in scale)


def _rating(target: Target) -> int:
    if not isinstance(target, int):
        raise TypeError("a rating is a whole number")
    return target


@hookimpl
def contlearn_register_tasks() -> list[type]:
    """Give the task."""
    return [Ratings]
