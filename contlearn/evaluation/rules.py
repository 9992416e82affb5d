"""The default rules of the gate. Each says what it measured, what it required, and why.

A rule answers `passed = None` where it does not apply; too little evidence is an answer, never a
crash. Champion rules do not apply to the first version, whose floor is the commonest label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from contlearn.evaluation.evidence import (
    TINY,
    association_chance,
    chance_of_harm,
    change,
    compare,
    finite,
    fresh_sets,
    has_champion,
    level,
    metric_of,
    new_sets,
    old_sets,
    rows_of,
    short_evidence_warning,
    spec_of,
    titled,
)
from contlearn.evaluation.few_rows import judge_by_chance
from contlearn.evaluation.sides import count_changes
from contlearn.interfaces import GateEvidence
from contlearn.statistics.bootstrap import PairedDifference
from contlearn.statistics.non_inferiority import shift_bound
from contlearn.statistics.several import holm
from contlearn.types import PairedScores, RuleOutcome
from contlearn.wording import percent

__all__ = ["Floor", "Gain", "MinimumEvidence", "NoHarm", "NoRegression", "RuleOptions"]


class RuleOptions(BaseModel):
    """`[gate.rule_options.<rule>]`: none of its own for a rule that goes by the keys of [gate]."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MinimumEvidence:
    """Enough old held-out rows to tell a loss of the margin from chance.

    Below `gate.min_evidence_rows` the message says how many more rows are the least with which
    two equal versions can pass, and how many give a power of 80 %. `gate.short_evidence` decides:
    "refuse" refuses the challenger; otherwise the rule does not apply, and the others go by what
    few rows can say.
    """

    name: ClassVar[str] = "minimum-evidence"
    summary: ClassVar[str] = "enough old held-out rows to tell a loss from chance"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Count the rows."""
        if not has_champion(evidence):
            return (RuleOutcome.not_applicable(self.name, _why_no_old(evidence)),)
        rows = sum(map(rows_of, old_sets(evidence)))
        least = evidence.config.min_evidence_rows
        warning = short_evidence_warning(evidence)
        refuse = evidence.config.short_evidence == "refuse"
        return (
            RuleOutcome(
                rule=self.name,
                passed=True if warning is None else False if refuse else None,
                measured=float(rows),
                required=float(least),
                message=warning
                or f"{rows} old held-out rows are enough to judge by confidence bounds.",
            ),
        )


class NoRegression:
    """Not worse on what was known: non-inferiority on all old held-out rows together.

    The lower bound of challenger less champion with `gate.confidence` must be above `-gate.margin`:
    for a share of rows by Tango's score, for other metrics by paired bootstrap. Below
    `gate.min_evidence_rows` the chance of a true loss of the margin decides
    (`gate.short_evidence = "chance"`), or the observed difference ("point"), or the challenger is
    refused ("refuse").
    """

    name: ClassVar[str] = "no-regression"
    summary: ClassVar[str] = "not worse than the margin on all old held-out rows together"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Compare on the rows of all earlier experiences."""
        pairs = old_sets(evidence)
        margin, confidence = evidence.config.margin, evidence.config.confidence
        if not pairs:
            return (self._without_rows(evidence),)
        is_share = spec_of(evidence).is_share_of_rows
        result = compare(evidence, pairs, resamples=1 if is_share else None)
        seen = (
            f"{titled(evidence)} on {result.rows} old held-out rows: "
            f"{level(evidence, result.challenger)}, "
            f"champion {level(evidence, result.champion)}"
        )
        warning = short_evidence_warning(evidence)
        if warning is not None and evidence.config.short_evidence == "refuse":
            return (
                RuleOutcome(
                    rule=self.name,
                    passed=False,
                    measured=float(result.rows),
                    required=float(evidence.config.min_evidence_rows),
                    message=f"{seen}; too few rows to decide. {warning}",
                ),
            )
        if warning is not None and evidence.config.short_evidence == "chance":
            return (judge_by_chance(self.name, evidence, pairs, result, seen=seen),)
        if warning is not None:
            measured = result.observed
        elif is_share:
            changes = count_changes(pairs)
            measured = shift_bound(changes.won, changes.lost, changes.rows, confidence)
        else:
            measured = result.lower_bound(confidence)
        passed = measured > -margin - TINY if warning else measured > -margin + TINY
        how = (
            f"the difference is {change(evidence, result.observed)}"
            if warning
            else f"the difference is {change(evidence, result.observed)}, with "
            f"{percent(confidence)} confidence above {change(evidence, measured)}"
        )
        return (
            RuleOutcome(
                rule=self.name,
                passed=passed,
                measured=measured,
                required=-margin,
                message=f"{seen}; {how}; it must be above {change(evidence, -margin)}.",
            ),
        )

    def _without_rows(self, evidence: GateEvidence) -> RuleOutcome:
        warning = short_evidence_warning(evidence)
        if warning is None or evidence.config.short_evidence != "refuse":
            return RuleOutcome.not_applicable(self.name, _why_no_old(evidence))
        least = float(evidence.config.min_evidence_rows)
        return RuleOutcome(
            rule=self.name, passed=False, measured=0.0, required=least, message=warning
        )


class NoHarm:
    """No single earlier experience is harmed, even if the whole is well.

    Harm is a loss beyond `gate.margin` that chance does not explain: for accuracy by McNemar's
    exact test, for other metrics by the paired bootstrap. The p-values of all old sets are
    corrected together by Holm's method, so that many sets do not make a refusal by accident. A
    set with a smaller loss cannot be harmed and counts with p = 1.
    """

    name: ClassVar[str] = "no-harm"
    summary: ClassVar[str] = "no earlier experience significantly harmed (Holm-corrected)"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Test each earlier experience; name those that are harmed."""
        pairs = old_sets(evidence)
        if not pairs:
            return (RuleOutcome.not_applicable(self.name, _why_no_old(evidence)),)
        alpha, margin = 1.0 - evidence.config.confidence, evidence.config.margin
        # p-values must be able to get below the strictest threshold, alpha / number of sets.
        resamples = min(20_000, max(evidence.config.resamples, math.ceil(4 * len(pairs) / alpha)))
        results = []
        for pair in pairs:
            result = compare(evidence, [pair], resamples=1)
            if result.observed < -margin - TINY:
                result = compare(evidence, [pair], resamples=resamples)
            results.append(result)
        corrected = holm(
            [
                chance_of_harm(evidence, [pair], result)
                if result.observed < -margin - TINY
                else 1.0
                for pair, result in zip(pairs, results, strict=True)
            ]
        )
        harmed = [
            (pair, result, p)
            for pair, result, p in zip(pairs, results, corrected, strict=True)
            if p < alpha and result.observed < -margin - TINY
        ]
        worst = min(results, key=lambda result: result.observed)
        if not harmed:
            return (
                RuleOutcome(
                    rule=self.name,
                    passed=True,
                    measured=worst.observed,
                    required=-margin,
                    message=f"None of {len(pairs)} earlier experiences is harmed; the largest "
                    f"change is {change(evidence, worst.observed)} on {worst.rows} rows.",
                ),
            )
        return tuple(
            RuleOutcome(
                rule=self.name,
                passed=False,
                measured=result.observed,
                required=-margin,
                message=f"Experience {pair.index + 1} is harmed: {titled(evidence)} on its "
                f"{result.rows} held-out rows went from {level(evidence, result.champion)} to "
                f"{level(evidence, result.challenger)} (corrected p = {p:.4f}).",
            )
            for pair, result, p in harmed
        )


class Gain:
    """Earns its place on what is new.

    Two things must hold on the new held-out rows:
    1. The answers are related to the labels at all: so many right answers must be improbable
       (one-sided level 1 - `gate.confidence`) if answers were dealt out to rows at random. A batch
       with shuffled labels fails here, whatever the champion does on it; guessing that follows
       label frequencies fails too. With n rows the level is 2/n where that is larger (at most
       0.5), because a handful of rows cannot reach a strict level; not with
       `gate.short_evidence = "refuse"`.
    2. The challenger is not worse than the champion there: no loss beyond `gate.margin` that
       chance does not explain. With `gate.min_gain` set, the gain must be observed and significant.

    A significant gain is not asked for by default: where the champion is good already there is
    little to gain, and few rows would never show it.

    Where an earlier update has kept some of the rows, both must hold on the others too: what was
    found sound before must not carry what comes with it.
    """

    name: ClassVar[str] = "gain"
    summary: ClassVar[str] = "knows what is new, and not worse than the champion there"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Judge on the held-out rows of the experience on trial."""
        pairs = new_sets(evidence)
        if not has_champion(evidence):
            return (RuleOutcome.not_applicable(self.name, _why_no_old(evidence)),)
        if not pairs:
            refuse = evidence.config.short_evidence == "refuse"
            return (
                RuleOutcome(
                    rule=self.name,
                    passed=False if refuse else None,
                    measured=0.0,
                    required=None,
                    message="The new records have no held-out row to judge on.",
                ),
            )
        config = evidence.config
        result = compare(evidence, pairs)
        seen = (
            f"{titled(evidence)} on {result.rows} new held-out rows: "
            f"{level(evidence, result.challenger)}, "
            f"champion {level(evidence, result.champion)}"
        )
        problems = _not_learnt(evidence, pairs, result)
        fresh = fresh_sets(evidence)
        if fresh and not problems:
            alone = compare(evidence, fresh)
            problems = [
                f"on the {alone.rows} of them that no update has kept, {problem}"
                for problem in _not_learnt(evidence, fresh, alone)
            ]
        if config.min_gain > 0.0:
            required = config.min_gain
            if result.observed < required - TINY:
                problems.append(
                    f"the gain must be {change(evidence, required, sign=False)} (gate.min_gain)"
                )
            elif result.lower_bound(config.confidence) <= TINY:
                problems.append("the gain may be chance")
        else:
            required = -config.margin
        return (
            RuleOutcome(
                rule=self.name,
                passed=not problems,
                measured=result.observed,
                required=required,
                message=f"{seen}"
                + ("; " + "; ".join(problems) if problems else ": it knows what is new")
                + ".",
            ),
        )


class Floor:
    """The first version must beat the answer that needs no model: always the commonest label.

    Its metric must be above that of the commonest label, and its answers related to the labels
    (as in `gain`). With a champion there is a better yardstick, and the rule does not apply.
    """

    name: ClassVar[str] = "floor"
    summary: ClassVar[str] = "the first version beats always answering the commonest label"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Compare with the commonest label on all held-out rows."""
        import numpy as np

        if has_champion(evidence):
            return (RuleOutcome.not_applicable(self.name, "The champion is the yardstick now"),)
        pairs = [pair for pair in evidence.sets if rows_of(pair) and pair.baseline is not None]
        if not pairs:
            return (
                RuleOutcome(
                    rule=self.name,
                    passed=False,
                    measured=0.0,
                    required=1.0,
                    message="There is no held-out row to judge the first version on. Bring more "
                    "records, or rows of your own with `contlearn ingest --held-out`.",
                ),
            )
        metric = metric_of(evidence)
        has_labels = evidence.task.labelling != "value"
        always = (
            "always answering the commonest label" if has_labels else "answering without a look"
        )
        rows = sum(map(rows_of, pairs))
        value = float(metric(np.concatenate([p.challenger.statistics for p in pairs]).sum(axis=0)))
        floor = float(
            metric(np.concatenate([p.baseline.statistics for p in pairs if p.baseline]).sum(axis=0))
        )
        finite(value, f"{evidence.metric} of the challenger on {rows} rows", "the gate")
        problem = chance_problem(evidence, pairs, champion=0.0)
        is_better = value > floor + TINY
        units = {evidence.task.units(target) for pair in pairs for target in pair.targets}
        if problem is None and not is_better and len(units) == 1:
            problem = "all rows have one label, so no answer can be better; bring rows of others"
        passed = is_better and problem is None
        return (
            RuleOutcome(
                rule=self.name,
                passed=passed,
                measured=spec_of(evidence).oriented(value),
                required=spec_of(evidence).oriented(floor),
                message=f"{titled(evidence)} on {rows} held-out rows is "
                f"{level(evidence, value)}; {always} gives {level(evidence, floor)}"
                + (f"; {problem}." if problem else "."),
            ),
        )


def _not_learnt(
    evidence: GateEvidence, pairs: Sequence[PairedScores], result: PairedDifference
) -> list[str]:
    """Say what speaks against rows on trial: guesses, or a loss; a wanted gain is asked apart."""
    config, problems = evidence.config, []
    chance = chance_problem(evidence, pairs, champion=result.champion)
    if chance is not None:
        problems.append(chance)
    is_loss = config.min_gain == 0.0 and result.observed < -config.margin - TINY
    if is_loss and chance_of_harm(evidence, pairs, result) < 1.0 - config.confidence:
        most = change(evidence, config.margin, sign=False)
        problems.append(f"that is a loss beyond {most} which chance does not explain")
    return problems


def chance_problem(
    evidence: GateEvidence, pairs: Sequence[PairedScores], *, champion: float
) -> str | None:
    """Say why the challenger's answers look like guesses; None when they do not."""
    answers = [answer for pair in pairs for answer in pair.challenger.predictions]
    targets = [target for pair in pairs for target in pair.targets]
    chance = association_chance(evidence.task, answers, targets, seed=evidence.seed)
    if chance is None:
        # One label only: shuffling it changes nothing, so being right is what can be asked.
        credits = [credit for pair in pairs for credit in pair.challenger.credits]
        right = sum(credit >= 1.0 for credit in credits) / max(len(targets), 1)
        if right >= 0.5 or right > champion:
            return None
        return f"only {percent(right)} of the answers are right, and all rows have one label"
    p, units = chance
    strict = 1.0 - evidence.config.confidence
    if evidence.config.short_evidence != "refuse":
        strict = min(0.5, max(strict, 2.0 / units))
    if p <= strict:
        return None
    return (
        "the answers are no better than guesses: dealt out to the rows at random, as many would be "
        f"right in {percent(p)} of the cases, and at most {percent(strict)} are allowed"
    )


def _why_no_old(evidence: GateEvidence) -> str:
    if not has_champion(evidence):
        return "There is no champion to compare with"
    return "Earlier experiences have no held-out rows"
