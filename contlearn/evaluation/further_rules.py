"""Further rules about answers, off by default: name them in `gate.rules`.

A limit has no default where none would be right for everybody: leaving it out is an error of the
configuration, never a pass. Limits stand in `[gate.rule_options.<rule>]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field

from contlearn.errors import ConfigError, EvaluationError
from contlearn.evaluation.calibration import calibration_error
from contlearn.evaluation.evidence import finite, old_sets, spec_of
from contlearn.evaluation.rules import RuleOptions
from contlearn.evaluation.sides import count_changes
from contlearn.evaluation.slices import SLICES, score_slices
from contlearn.interfaces import GateEvidence
from contlearn.statistics.exact import sign_test
from contlearn.types import RuleOutcome
from contlearn.wording import percent

if TYPE_CHECKING:
    from contlearn.config import Config

__all__ = ["Calibration", "ExactSign", "LabelFloor", "NegativeFlips", "SliceFloor"]


class ExactSign:
    """Rows that only one of the two answers right: the challenger must not win significantly fewer.

    McNemar's test, exact and one-sided, over all old rows; a row is right when its whole answer is.
    Source: McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions
    or Percentages", 1947.
    """

    name: ClassVar[str] = "mcnemar"
    summary: ClassVar[str] = "exact McNemar test on the right answers of all old rows"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Count the rows that changed sides."""
        lost, won, rows = count_changes(old_sets(evidence))
        if rows == 0:
            return (RuleOutcome.not_applicable(self.name, "no champion, or no old held-out rows"),)
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

    class Options(RuleOptions):
        """`min_f1` of labels with at least `min_rows` rows."""

        min_f1: float = Field(ge=0.0, le=1.0)
        min_rows: int = Field(20, ge=1)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Look at every label over all held-out rows."""
        pairs = [pair for pair in evidence.sets if pair.challenger.rows]
        if not pairs:
            return (RuleOutcome.not_applicable(self.name, "no held-out rows"),)
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
        for score in enough:
            finite(score.f1, f"F1 of the label {score.label!r}", f"the gate rule {self.name}")
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


class SliceFloor:
    """Every slice with enough rows keeps a least measure, or stays as good as the champion's.

    Slices are taken by `length`, `script`, `source`, `group`, or a field named in `data.slices`.
    """

    name: ClassVar[str] = "slice-floor"
    summary: ClassVar[str] = "every slice with enough rows has a least measure"

    class Options(RuleOptions):
        """`min_value` of `gate.metric` on slices `by` with at least `min_rows` rows."""

        by: tuple[str, ...] = Field(min_length=1)
        min_value: float = Field(ge=0.0, le=1.0)
        min_rows: int = Field(30, ge=10)

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self, config: Config) -> None:
        """See that each slice exists.

        Raises:
            ConfigError: When one is neither built in nor named in `data.slices`.
        """
        known = (*SLICES, *config.data.slices)
        for name in self.options.by:
            if name not in known:
                raise ConfigError(
                    f"There is no slice {name!r}.",
                    where="gate.rule_options.slice-floor.by in contlearn.toml",
                    hint=f"Choose from {', '.join(known)}, or name a field of the rows in "
                    "data.slices.",
                )

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Look at each kind of slice over all held-out rows."""
        if not any(pair.challenger.rows for pair in evidence.sets):
            return (RuleOutcome.not_applicable(self.name, "no held-out rows"),)
        options = self.options
        metric = spec_of(evidence)
        if metric.unit or not metric.higher_is_better:
            raise EvaluationError(
                f"The rule {self.name!r} takes a least share, and {metric.name!r} is none.",
                where="gate.rules in contlearn.toml",
                hint="Take the rule out, or choose another gate.metric.",
            )
        scores = score_slices(
            evidence.sets,
            evidence.task,
            evidence.labels,
            evidence.metric,
            by=options.by,
            min_rows=options.min_rows,
        )
        for score in scores:
            what = f"{evidence.metric} of the slice {score.by} = {score.value!r}"
            finite(score.challenger, what, f"the gate rule {self.name}")
        outcomes = []
        for name in options.by:
            if not any(name in pair.slices for pair in evidence.sets):
                outcomes.append(self._absent(name))
                continue
            mine = [score for score in scores if score.by == name]
            low = [
                score
                for score in mine
                if score.challenger
                < min(options.min_value, 1.0 if score.champion is None else score.champion)
            ]
            named = ", ".join(
                f"{score.value} {percent(score.challenger)} of {score.rows} rows"
                for score in sorted(low, key=lambda score: score.challenger)[:10]
            )
            outcomes.append(
                RuleOutcome(
                    rule=self.name,
                    passed=not low if mine else None,
                    measured=min((score.challenger for score in mine), default=None),
                    required=options.min_value,
                    message=f"By {name}: {len(low)} of {len(mine)} slices with at least "
                    f"{options.min_rows} rows are below {percent(options.min_value)} "
                    f"{evidence.metric}" + (f" and below the champion: {named}." if named else "."),
                )
            )
        return tuple(outcomes)

    def _absent(self, name: str) -> RuleOutcome:
        """Refuse: what is asked for cannot be shown, and silence would be a pass."""
        return RuleOutcome(
            rule=self.name,
            passed=False,
            measured=None,
            required=self.options.min_value,
            message=f"By {name}: no held-out row has a value of it. Bring rows with it, spelt as "
            "in the rows, or take it out of gate.rule_options.slice-floor.by.",
        )


class NegativeFlips:
    """Few rows that the champion answers right and the challenger wrong.

    People who rely on the old answers notice these most, whatever the mean does.
    Source: Yan et al., "Positive-Congruent Training: Towards Regression-Free Model Updates", 2021.
    """

    name: ClassVar[str] = "negative-flips"
    summary: ClassVar[str] = "few old rows go from right to wrong"

    class Options(RuleOptions):
        """`max_rate` of all old held-out rows."""

        max_rate: float = Field(ge=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Count the rows that went from right to wrong."""
        lost, _, rows = count_changes(old_sets(evidence))
        if rows == 0:
            return (RuleOutcome.not_applicable(self.name, "no champion, or no old held-out rows"),)
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
    needs: ClassVar[frozenset[str]] = frozenset(("confidence",))

    class Options(RuleOptions):
        """`max_error`: the mean gap between confidence and share right."""

        max_error: float = Field(gt=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Measure the gap."""
        if not any(pair.challenger.rows for pair in evidence.sets):
            return (RuleOutcome.not_applicable(self.name, "no held-out rows"),)
        error = calibration_error(evidence.sets)
        if error is None:
            raise EvaluationError(
                f"The rule {self.name!r} needs a confidence between 0 and 1 for every row, and "
                f"the answers of the task {evidence.task.name!r} have none.",
                where="gate.rules in contlearn.toml",
                hint="Take the rule out for this task; if it has confidences, the model is broken.",
            )
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
