"""Golden inputs: sentences we wrote, and what the model answered when the version was made.

A version that gives other answers later, or on another machine, is not the version that was
proven. No user's text is ever among them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from contlearn.interfaces import Task
from contlearn.types import Inputs, LabelSpace

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["GOLDEN_TEXTS", "check_golden", "write_golden"]

FORMAT_VERSION: Final = 1
GOLDEN_TEXTS: Final = (
    "Yes.",
    "The parcel never came and nobody answers the phone!",
    "Could you move my appointment from Monday to next Thursday at four?",
    "A quiet, patient film; I would watch it again tomorrow.",
    "Play something slow by a band from Lisbon, please",
    "It broke after two days. Two days!",
    "Transfer 250 euros from savings to my landlord",
    "naïve café – 東京 – наконец – 🙂",
    "Why is the sky grey in Bergen?",
    (
        "I waited, and I waited, and then I waited a little more, because the woman at the desk "
        "told me that the train to the coast would surely be no more than an hour late."
    ),
)
# fp32 differs in the last digits between processors and thread counts. int8 kernels differ by
# rounding steps; saturation without VNNI is far beyond this.
_TOLERANCES: Final = {"fp32": 1e-3, "fp16": 2e-2, "int8": 2e-2}


class Answering(Protocol):
    """What is needed of a predictor here."""

    precision: str
    task: Task
    label_space: LabelSpace

    @property
    def graph_inputs(self) -> Collection[str]:
        """Name the graph's inputs."""
        ...

    @property
    def graph_outputs(self) -> Mapping[str, Any]:
        """Name the graph's outputs, each with its shape."""
        ...

    def predict_detailed(self, inputs: Sequence[Inputs]) -> Sequence[Any]:
        """Answer inputs, each with `logits` and `projection`."""
        ...


def write_golden(predictor: Answering) -> dict[str, Any]:
    """Compute what goes into the manifest: texts, outputs, and the graph's inputs and outputs."""
    answers = predictor.predict_detailed(_inputs(predictor, GOLDEN_TEXTS))
    return {
        "format_version": FORMAT_VERSION,
        "precision": predictor.precision,
        "graph": {
            "inputs": list(predictor.graph_inputs),
            "outputs": dict(predictor.graph_outputs),
        },
        "texts": list(GOLDEN_TEXTS),
        "logits": [_rounded(answer.logits) for answer in answers],
        "projections": [_rounded(answer.projection) for answer in answers],
    }


def check_golden(predictor: Answering, golden: Mapping[str, Any] | None) -> list[str]:
    """Answer the golden texts and compare with what was recorded.

    The largest difference of logits must stay under the precision's tolerance, as a share of the
    largest logit recorded (at least 1).

    Returns:
        One sentence a problem; nothing when the model is what it was.
    """
    import numpy as np

    if not golden or golden.get("format_version") != FORMAT_VERSION:
        return ["the manifest has no golden answers to compare with"]
    answers = predictor.predict_detailed(_inputs(predictor, golden["texts"]))
    problems = []
    tolerance = _TOLERANCES[predictor.precision]
    for number, (answer, logits) in enumerate(zip(answers, golden["logits"], strict=True), 1):
        expected = np.asarray(logits, dtype=np.float64).reshape(-1, len(predictor.label_space))
        found = np.asarray(answer.logits, dtype=np.float64).reshape(-1, len(predictor.label_space))
        if expected.shape != found.shape:
            problems.append(f"golden text {number} is cut into other words than it was")
            continue
        if expected.size == 0:
            continue
        difference = float(np.abs(expected - found).max())
        if not difference <= tolerance * max(1.0, float(np.abs(expected).max())):
            problems.append(f"golden text {number} differs by {difference:.3g} in its logits")
    return problems


def _inputs(predictor: Answering, texts: Sequence[str]) -> list[Inputs]:
    return [predictor.task.probe(text) for text in texts]


def _rounded(values: FloatArray) -> list[Any]:
    import numpy as np

    rounded: list[Any] = np.round(np.asarray(values, dtype=np.float64), 6).tolist()
    return rounded
