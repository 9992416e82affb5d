"""Few old rows: how probable it is, given what was seen, that the challenger is truly worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contlearn.evaluation.evidence import TINY, change, metric_of, rows_of, spec_of
from contlearn.evaluation.sides import count_changes
from contlearn.interfaces import GateEvidence
from contlearn.statistics.bootstrap import PairedDifference
from contlearn.statistics.posterior import chance_of_loss, posterior_differences
from contlearn.types import CHANCE_OF_LOSS, PairedScores, RuleOutcome
from contlearn.wording import percent

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["chance_of_true_loss", "judge_by_chance"]


def judge_by_chance(
    rule: str,
    evidence: GateEvidence,
    pairs: Sequence[PairedScores],
    result: PairedDifference,
    *,
    seen: str,
) -> RuleOutcome:
    """Let a challenger pass where a loss of the margin is improbable enough.

    Where it is not, but was not observed either, nothing speaks against the records: they are kept
    for the next update.

    Args:
        rule: Who asks.
        evidence: The configuration in force, and the task.
        pairs: The old sets.
        result: The comparison on all their rows.
        seen: What was measured, for the message.
    """
    config = evidence.config
    chance, most = chance_of_true_loss(evidence, pairs), config.chance_of_loss
    passed = chance <= most
    is_within = result.observed > -config.margin - TINY
    message = (
        f"{seen}; the difference is {change(evidence, result.observed)}. With {result.rows} old "
        f"rows, the chance that it is truly worse by {change(evidence, config.margin, sign=False)} "
        f"or more is {percent(chance)}; at most {percent(most)} are allowed."
    )
    if not passed and is_within:
        message += " Such a loss was not observed, so nothing is held against the records."
    return RuleOutcome(
        rule=rule,
        passed=passed,
        measured=chance,
        required=most,
        message=message,
        keeps=not passed and is_within,
        measure=CHANCE_OF_LOSS,
    )


def chance_of_true_loss(evidence: GateEvidence, pairs: Sequence[PairedScores]) -> float:
    """Give the chance that the challenger is truly worse by `gate.margin` or more.

    A share of rows is counted (`chance_of_loss`), other metrics are drawn. What a mistake costs in
    them is taken from the mistakes that the two made; from those of the answer that does not look
    at the inputs, where they made none. Where there is none either, rows are counted.
    """
    import numpy as np

    margin = evidence.config.margin
    right, wrong = _mistakes(evidence, pairs)
    if spec_of(evidence).is_share_of_rows or not right:
        changes = count_changes(pairs)
        return float(chance_of_loss(changes.lost, changes.won, changes.rows, margin))
    drawn = posterior_differences(
        np.concatenate([pair.champion.statistics for pair in pairs if pair.champion is not None]),
        np.concatenate([pair.challenger.statistics for pair in pairs]),
        metric_of(evidence),
        right=np.array(right),
        wrong=np.array(wrong),
        draws=evidence.config.resamples,
        seed=evidence.seed,
    )
    return float((drawn <= -margin).mean())


def _mistakes(
    evidence: GateEvidence, pairs: Sequence[PairedScores]
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Give the counts of rows answered right, and of the same rows as they were answered wrong."""
    for by_the_two in (True, False):
        right: list[FloatArray] = []
        wrong: list[FloatArray] = []
        for pair in pairs:
            best = evidence.task.statistics(pair.targets, pair.targets, evidence.labels)
            for scores in (pair.champion, pair.challenger) if by_the_two else (pair.baseline,):
                if scores is None:
                    continue
                for row in range(rows_of(pair)):
                    if scores.credits[row] < 1.0:
                        right.append(best[row])
                        wrong.append(scores.statistics[row])
        if right:
            break
    return right, wrong
