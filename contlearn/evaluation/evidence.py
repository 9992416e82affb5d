"""What the rules share: pooling of sets, chance levels, and how many rows would be needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from contlearn.errors import EvaluationError
from contlearn.evaluation.sides import count_changes
from contlearn.interfaces import GateEvidence
from contlearn.statistics.bootstrap import PairedDifference, paired_difference
from contlearn.statistics.exact import sign_test
from contlearn.types import PairedScores, Target
from contlearn.wording import percent

if TYPE_CHECKING:
    from contlearn.types import FloatArray, IntArray

__all__ = [
    "association_chance",
    "chance_of_harm",
    "compare",
    "finite",
    "has_champion",
    "least_rows",
    "metric_of",
    "new_sets",
    "old_sets",
    "rows_needed",
    "rows_of",
    "short_evidence_warning",
]

POWER: Final = 0.8
# Share of rows on which two versions disagree, if fewer were seen.
_LEAST_DISAGREEMENT: Final = 0.05
_SHUFFLES: Final = 2000
_LEAST_SHUFFLES: Final = 400
_SHUFFLED_UNITS: Final = 4_000_000


def old_sets(evidence: GateEvidence) -> tuple[PairedScores, ...]:
    """Give the sets of earlier experiences that both versions answered."""
    return tuple(s for s in evidence.sets if not s.is_new and s.champion is not None and rows_of(s))


def new_sets(evidence: GateEvidence) -> tuple[PairedScores, ...]:
    """Give the sets of the experience on trial."""
    return tuple(s for s in evidence.sets if s.is_new and rows_of(s))


def rows_of(pair: PairedScores) -> int:
    """Give the number of rows of a set."""
    return pair.challenger.rows


def metric_of(
    evidence: GateEvidence, name: str | None = None
) -> Callable[[FloatArray], FloatArray]:
    """Give the function from sums of counts to a metric, `gate.metric` if none is named.

    Raises:
        EvaluationError: When the task has no such metric.
    """
    wanted = name or evidence.metric

    def metric(sums: FloatArray) -> FloatArray:
        values = evidence.task.summarise(sums, evidence.labels)
        if wanted not in values:
            raise EvaluationError(
                f"The task {evidence.task.name!r} has no metric {wanted!r}.",
                where="gate.metric in contlearn.toml",
                hint=f"Choose one of: {', '.join(evidence.task.metrics)}.",
            )
        return values[wanted]

    return metric


def finite(value: float, what: str, rule: str) -> float:
    """Give a measure back; one that is no number is an error, because it compares as a pass.

    Raises:
        EvaluationError: When it is nan or infinite.
    """
    if math.isfinite(value):
        return value
    raise EvaluationError(
        f"{what} is {value}: no number to judge by.",
        where=rule,
        hint="The task's measures, or the model's answers, are broken; a challenger without a "
        "measure is never promoted.",
    )


def compare(
    evidence: GateEvidence, pairs: Sequence[PairedScores], *, resamples: int | None = None
) -> PairedDifference:
    """Bootstrap challenger less champion over all rows of some sets together."""
    import numpy as np

    champions = [pair.champion.statistics for pair in pairs if pair.champion is not None]
    result = paired_difference(
        np.concatenate(champions),
        np.concatenate([pair.challenger.statistics for pair in pairs]),
        metric_of(evidence),
        resamples=resamples or evidence.config.resamples,
        seed=evidence.seed,
    )
    for whose, value in (("challenger", result.challenger), ("champion", result.champion)):
        finite(value, f"{evidence.metric} of the {whose} on {result.rows} rows", "the gate")
    return result


def chance_of_harm(
    evidence: GateEvidence, pairs: Sequence[PairedScores], result: PairedDifference
) -> float:
    """Give the p-value of "the challenger is not worse" on some sets together.

    Accuracy is a share of rows, for which McNemar's test is exact; other metrics are resampled.
    """
    if evidence.metric == "accuracy" and all(isinstance(t, str) for p in pairs for t in p.targets):
        changes = count_changes(pairs)
        return sign_test(changes.lost, changes.won)
    return result.chance_of_harm()


def association_chance(
    answers: Sequence[Target], targets: Sequence[Target], *, seed: int
) -> tuple[float, int] | None:
    """Say how probable so many right answers are, were answers and targets unrelated.

    The answers are dealt out to the rows anew; how often as many are right is the p-value. It does
    not depend on how common a label is: always answering the commonest label is chance.
    Tags are compared word by word, first within the words that both take for part of an entity
    (is it the right type?), and over all words where there is one type only.

    Returns:
        The p-value and the number of units compared, or None where every target is the same, so
        that chance cannot be told from knowledge.
    Source: Fisher, "The Design of Experiments", 1935 (the randomisation test).
    """
    import numpy as np

    given, expected = _units(answers, targets)
    names = {name: i for i, name in enumerate(sorted({*given, *expected}))}
    if len(set(expected)) < 2:
        return None
    a: IntArray = np.array([names[name] for name in given])
    t: IntArray = np.array([names[name] for name in expected])
    right = int((a == t).sum())
    generator = np.random.default_rng(seed)
    # Many units need fewer shuffles: their chance is near 0 or far from it.
    shuffles = max(_LEAST_SHUFFLES, min(_SHUFFLES, _SHUFFLED_UNITS // len(a)))
    block = max(1, _SHUFFLED_UNITS // 8 // len(a))
    as_many = 0
    for start in range(0, shuffles, block):
        dealt = np.tile(a, (min(block, shuffles - start), 1))
        as_many += int(((generator.permuted(dealt, axis=1) == t).sum(axis=1) >= right).sum())
    return (as_many + 1) / (shuffles + 1), len(given)


def rows_needed(difference: float, disagreement: float, confidence: float) -> int:
    """Give the rows with which a true loss of 0 is told from `difference` in 4 cases of 5.

    Example:
        >>> rows_needed(0.03, 0.05, 0.95)
        344
    """
    normal = NormalDist()
    total = normal.inv_cdf(confidence) + normal.inv_cdf(POWER)
    return math.ceil(total**2 * max(disagreement, _LEAST_DISAGREEMENT) / difference**2)


def least_rows(difference: float, disagreement: float, confidence: float) -> int:
    """Give the rows below which even two versions that are equally good cannot pass.

    Example:
        >>> least_rows(0.03, 0.05, 0.95)
        151
    """
    quantile = NormalDist().inv_cdf(confidence)
    return math.ceil(quantile**2 * max(disagreement, _LEAST_DISAGREEMENT) / difference**2)


def short_evidence_warning(evidence: GateEvidence) -> str | None:
    """Say when there are fewer old held-out rows than asked for, and how many more would do."""
    if not has_champion(evidence):
        return None
    pairs = old_sets(evidence)
    rows, least = sum(map(rows_of, pairs)), evidence.config.min_evidence_rows
    margin, confidence = evidence.config.margin, evidence.config.confidence
    if not pairs:
        needed = max(rows_needed(margin, _LEAST_DISAGREEMENT, confidence), least)
        return (
            "There is no held-out row of earlier experiences, so nothing shows what was lost; "
            f"{needed} tell a difference of {percent(margin)} from chance in 4 cases of 5."
        )
    if rows >= least:
        return None
    apart = disagreement(pairs)
    needed = max(rows_needed(margin, apart, confidence), least)
    lowest = least_rows(margin, apart, confidence)
    assumed = f" ({percent(_LEAST_DISAGREEMENT)} is assumed)" if apart < _LEAST_DISAGREEMENT else ""
    return (
        f"Only {rows} held-out rows of earlier experiences: fewer than gate.min_evidence_rows = "
        f"{least}. The answers differ on {percent(apart)} of them{assumed}; to tell a difference "
        f"of {percent(margin)} from chance, "
        + (f"{lowest - rows} more are the least, and " if lowest > rows else "")
        + f"{needed - rows} more do it in 4 cases of 5."
    )


def has_champion(evidence: GateEvidence) -> bool:
    """Say whether there is a champion to compare with."""
    return any(pair.champion is not None for pair in evidence.sets)


def disagreement(pairs: Sequence[PairedScores]) -> float:
    """Give the share of rows on which champion and challenger answer differently."""
    rows = sum(map(rows_of, pairs))
    different = sum(
        sum(a != b for a, b in zip(p.challenger.predictions, p.champion.predictions, strict=False))
        for p in pairs
        if p.champion is not None
    )
    return different / rows if rows else 0.0


def _units(answers: Sequence[Target], targets: Sequence[Target]) -> tuple[list[str], list[str]]:
    given: list[str] = []
    expected: list[str] = []
    for answer, target in zip(answers, targets, strict=True):
        given.extend([answer] if isinstance(answer, str) else answer)
        expected.extend([target] if isinstance(target, str) else target)
    if all(isinstance(target, str) for target in targets):
        return given, expected
    typed = [(a[2:], t[2:]) for a, t in zip(given, expected, strict=True) if a != "O" and t != "O"]
    if len({t for _, t in typed}) > 1:
        return [a for a, _ in typed], [t for _, t in typed]
    return given, expected
