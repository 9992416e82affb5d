"""The rule `worth`: something must speak for a change of the champion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import ClassVar

from pydantic import BaseModel

from contlearn.evaluation.evidence import (
    TINY,
    change,
    compare,
    disagreement,
    has_champion,
    new_sets,
    old_sets,
    rows_needed,
    rows_of,
    spec_of,
    titled,
)
from contlearn.evaluation.rules import RuleOptions
from contlearn.evaluation.sides import Changes, count_changes
from contlearn.interfaces import GateEvidence
from contlearn.types import RuleOutcome
from contlearn.wording import percent

__all__ = ["Worth"]


class Worth:
    """Something speaks for the change: better over new and old held-out rows taken together.

    The differences on the new and on the old rows are added by their weights (`gate.new_weight`),
    so that a hundred new rows are not drowned by thousands of old ones. The chance that the sum is
    above 0 must be `gate.worth_confidence`; what is observed worse on new and on old rows is never
    worth it. The chance of a share of rows is that of a normal distribution, with one more row that
    differs than there were; other metrics are resampled. A label that the champion cannot give
    speaks by its rows: the champion has all of them wrong.

    Not worth the change is no refusal: the champion stays, and the records are learnt with what
    comes next.
    """

    name: ClassVar[str] = "worth"
    summary: ClassVar[str] = "better over new and old rows together, or the champion stays"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Weigh what was won against what was lost."""
        if not has_champion(evidence):
            why = "There is no champion to compare with"
            return (RuleOutcome.not_applicable(self.name, why),)
        weight, required = evidence.config.new_weight, evidence.config.worth_confidence
        sides = [
            (name, share, pairs)
            for name, share, pairs in (
                ("new", weight, new_sets(evidence)),
                ("old", 1.0 - weight, old_sets(evidence)),
            )
            if pairs and share
        ]
        if not sides:
            return (RuleOutcome.not_applicable(self.name, "There are no held-out rows to weigh."),)
        whole = sum(share for _, share, _ in sides)
        results = [compare(evidence, pairs, stream=i) for i, (_, _, pairs) in enumerate(sides)]
        weights = [share / whole for _, share, _ in sides]
        if spec_of(evidence).is_share_of_rows:
            chance = _chance_of_gain(weights, [count_changes(pairs) for _, _, pairs in sides])
        else:
            draws = sum(w * result.draws for w, result in zip(weights, results, strict=True))
            chance = float((draws > 0).mean() + 0.5 * (draws == 0).mean())
        seen = ", ".join(
            f"{change(evidence, result.observed)} on {result.rows} {name} rows"
            for (name, _, _), result in zip(sides, results, strict=True)
        )
        is_worse = all(result.observed < -TINY for result in results)
        passed = chance >= required and not is_worse
        message = f"{titled(evidence)}: {seen}; the chance that it is better in all is "
        message += f"{percent(chance)}, and {percent(required)} are asked for"
        if not passed:
            message += "; it is worse wherever it was measured" if is_worse else ""
            message += f". {self._rows_missing(evidence, required)}"
        return (
            RuleOutcome(
                rule=self.name,
                passed=passed,
                measured=chance,
                required=required,
                message=message if not passed else f"{message}.",
                keeps=not passed,
            ),
        )

    def _rows_missing(self, evidence: GateEvidence, required: float) -> str:
        """Say how many new rows would show a gain worth having."""
        pairs = tuple(pair for pair in new_sets(evidence) if pair.champion is not None)
        hoped = evidence.config.min_gain or evidence.config.margin
        needed = rows_needed(hoped, disagreement(evidence, pairs), required)
        have = sum(map(rows_of, pairs))
        told = change(evidence, hoped, sign=False)
        if have >= needed:
            return f"Its {have} new rows would have shown a gain of {told} in 4 cases of 5."
        return (
            f"It would take {needed} new held-out rows to show a gain of {told} in 4 cases of 5, "
            f"and there are {have}."
        )


def _chance_of_gain(weights: Sequence[float], sides: Sequence[Changes]) -> float:
    """Give the chance that the weighted sum of differences of shares is above 0.

    Source of the added row: Agresti and Min, "Simple improved confidence intervals for comparing
    matched proportions", 2005.
    """
    total = variance = 0.0
    for weight, side in zip(weights, sides, strict=True):
        difference = (side.won - side.lost) / side.rows
        spread = (side.won + side.lost + 1) / side.rows - difference**2
        total += weight * difference
        variance += weight**2 * spread / side.rows
    return NormalDist().cdf(total / math.sqrt(variance))
