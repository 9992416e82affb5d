"""Further rules of the gate, off by default: name them in `gate.rules`.

A limit has no default where none would be right for everybody: leaving it out is an error of the
configuration, never a pass. Limits stand in `[gate.rule_options.<rule>]`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from contlearn.errors import EvaluationError
from contlearn.evaluation.calibration import calibration_error
from contlearn.evaluation.evidence import old_sets, percent
from contlearn.evaluation.rules import NoOptions
from contlearn.interfaces import GateEvidence
from contlearn.types import PairedScores, RuleOutcome

__all__ = [
    "Calibration",
    "ExactSign",
    "LabelAgreement",
    "LabelFloor",
    "ModelSize",
    "NegativeFlips",
    "sign_test",
]


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExactSign:
    """Rows that only one of the two answers right: the challenger must not win significantly fewer.

    McNemar's test, exact and one-sided, over all old rows; a row is right when its whole answer is.
    Source: McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions
    or Percentages", 1947.
    """

    name: ClassVar[str] = "mcnemar"
    summary: ClassVar[str] = "exact McNemar test on the right answers of all old rows"
    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Count the rows that changed sides."""
        lost, won, rows = _changes(old_sets(evidence))
        if rows == 0:
            return (_not_applicable(self.name, "no champion, or no old held-out rows"),)
        alpha = 1.0 - evidence.config.confidence
        p = sign_test(lost, won)
        return (
            RuleOutcome(
                rule=self.name,
                passed=p >= alpha,
                measured=p,
                required=alpha,
                message=f"Of {rows} old rows {lost} went from right to wrong and {won} from wrong "
                f"to right (exact p = {p:.4f}; below {alpha:.2g} it is not chance).",
            ),
        )


class LabelFloor:
    """Every label with enough rows keeps a least F1, or stays as good as the champion's."""

    name: ClassVar[str] = "label-floor"
    summary: ClassVar[str] = "every label with enough rows has a least F1"

    class Options(_Limits):
        """`min_f1` of labels with at least `min_rows` rows."""

        min_f1: float = Field(ge=0.0, le=1.0)
        min_rows: int = Field(20, ge=1)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Look at every label over all held-out rows."""
        pairs = [pair for pair in evidence.sets if pair.challenger.rows]
        if not pairs:
            return (_not_applicable(self.name, "no held-out rows"),)
        import numpy as np

        sums = np.concatenate([pair.challenger.statistics for pair in pairs]).sum(axis=0)
        before: dict[str, float] = {}
        champions = [pair.champion.statistics for pair in pairs if pair.champion is not None]
        if champions:
            scores = evidence.task.per_label(np.concatenate(champions).sum(axis=0), evidence.labels)
            before = {score.label: score.f1 for score in scores}
        enough = [
            score
            for score in evidence.task.per_label(sums, evidence.labels)
            if score.support >= self.options.min_rows
        ]
        low = [
            score
            for score in enough
            if score.f1 < min(self.options.min_f1, before.get(score.label, 1.0))
        ]
        named = ", ".join(f"{score.label} {percent(score.f1)}" for score in low[:10])
        return (
            RuleOutcome(
                rule=self.name,
                passed=not low if enough else None,
                measured=min((score.f1 for score in enough), default=None),
                required=self.options.min_f1,
                message=f"{len(low)} of {len(enough)} labels with at least "
                f"{self.options.min_rows} rows are below {percent(self.options.min_f1)}"
                + (f": {named}." if named else "."),
            ),
        )


class NegativeFlips:
    """Few rows that the champion answers right and the challenger wrong.

    People who rely on the old answers notice these most, whatever the mean does.
    Source: Yan et al., "Positive-Congruent Training: Towards Regression-Free Model Updates", 2021.
    """

    name: ClassVar[str] = "negative-flips"
    summary: ClassVar[str] = "few old rows go from right to wrong"

    class Options(_Limits):
        """`max_rate` of all old held-out rows."""

        max_rate: float = Field(ge=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Count the rows that went from right to wrong."""
        lost, _, rows = _changes(old_sets(evidence))
        if rows == 0:
            return (_not_applicable(self.name, "no champion, or no old held-out rows"),)
        rate = lost / rows
        return (
            RuleOutcome(
                rule=self.name,
                passed=rate <= self.options.max_rate,
                measured=rate,
                required=self.options.max_rate,
                message=f"{lost} of {rows} old rows ({percent(rate)}) went from right to wrong; at "
                f"most {percent(self.options.max_rate)} may.",
            ),
        )


class Calibration:
    """Confidences mean what they say: a small expected calibration error on all rows."""

    name: ClassVar[str] = "calibration"
    summary: ClassVar[str] = "confidences mean what they say"

    class Options(_Limits):
        """`max_error`: the mean gap between confidence and share right."""

        max_error: float = Field(gt=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Measure the gap."""
        error = calibration_error(evidence.sets)
        if error is None:
            return (_not_applicable(self.name, "the task has no confidence a row"),)
        return (
            RuleOutcome(
                rule=self.name,
                passed=error <= self.options.max_error,
                measured=error,
                required=self.options.max_error,
                message=f"Confidence and share right differ by {percent(error)} on average; at "
                f"most {percent(self.options.max_error)} is allowed.",
            ),
        )


class LabelAgreement:
    """The exported model answers like the model it was made from."""

    name: ClassVar[str] = "label-agreement"
    summary: ClassVar[str] = "the exported model answers like its source"

    class Options(_Limits):
        """`min_agreement`: the share of equal labels."""

        min_agreement: float = Field(gt=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Read what the export measured."""
        agreement = _fact(evidence, "label_agreement", self.name)
        return (
            RuleOutcome(
                rule=self.name,
                passed=agreement >= self.options.min_agreement,
                measured=agreement,
                required=self.options.min_agreement,
                message=f"{percent(agreement)} of {evidence.parity.get('rows_checked', '?')} rows "
                f"have the label of the source model; {percent(self.options.min_agreement)} must.",
            ),
        )


class ModelSize:
    """The file that is served stays under a size."""

    name: ClassVar[str] = "size"
    summary: ClassVar[str] = "the served file stays under a size"

    class Options(_Limits):
        """`max_bytes` of model.onnx."""

        max_bytes: int = Field(ge=1)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Read what the export wrote."""
        size = _fact(evidence, "size_bytes", self.name)
        return (
            RuleOutcome(
                rule=self.name,
                passed=size <= self.options.max_bytes,
                measured=size,
                required=float(self.options.max_bytes),
                message=f"model.onnx has {size / 1e6:.1f} MB; at most "
                f"{self.options.max_bytes / 1e6:.1f} MB are allowed.",
            ),
        )


def sign_test(lost: int, won: int) -> float:
    """Give the probability of at least so many losses if a loss and a win were equally likely.

    Example:
        >>> sign_test(5, 0)
        0.03125
    """
    total = lost + won
    tail = sum(math.comb(total, k) for k in range(lost, total + 1))
    # Whole numbers first: 0.5 ** total alone would be 0 from about 1 100 rows on.
    return float(Fraction(tail, 1 << total))


def _changes(pairs: tuple[PairedScores, ...]) -> tuple[int, int, int]:
    """Count rows gone from right to wrong, from wrong to right, and all."""
    lost = won = rows = 0
    for pair in pairs:
        if pair.champion is None:
            continue
        answers = zip(
            pair.champion.predictions, pair.challenger.predictions, pair.targets, strict=True
        )
        for before, after, target in answers:
            rows += 1
            lost += before == target != after
            won += after == target != before
    return lost, won, rows


def _fact(evidence: GateEvidence, key: str, rule: str) -> float:
    value = evidence.parity.get(key)
    if not isinstance(value, int | float):
        raise EvaluationError(
            f"The rule {rule!r} needs {key!r}, which the export did not measure.",
            where="gate.rules in contlearn.toml",
            hint="Take the rule out, or use an exporter that measures it.",
        )
    return float(value)


def _not_applicable(rule: str, why: str) -> RuleOutcome:
    return RuleOutcome(
        rule=rule, passed=None, measured=None, required=None, message=f"Not applicable: {why}."
    )
