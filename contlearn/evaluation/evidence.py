"""What the rules share: pooling of sets, chance levels, and how many rows would be needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, TypeAlias

from contlearn.errors import EvaluationError
from contlearn.evaluation.sides import count_changes, only_rows
from contlearn.interfaces import GateEvidence, Task
from contlearn.statistics.bootstrap import PairedDifference, paired_difference
from contlearn.statistics.exact import sign_test
from contlearn.tasks.measures import metric_named
from contlearn.types import Metric, PairedScores, Target
from contlearn.wording import amount, percent

if TYPE_CHECKING:
    from numpy.random import Generator

    from contlearn.types import FloatArray, IntArray

    _Right: TypeAlias = Callable[[IntArray], FloatArray]

__all__ = [
    "TINY",
    "association_chance",
    "chance_of_harm",
    "change",
    "compare",
    "disagreement",
    "finite",
    "fresh_sets",
    "has_champion",
    "least_rows",
    "level",
    "metric_of",
    "new_sets",
    "old_sets",
    "rows_needed",
    "rows_of",
    "short_evidence_warning",
    "spec_of",
    "titled",
]

POWER: Final = 0.8
# Share of rows on which two versions disagree, if fewer were seen.
_LEAST_DISAGREEMENT: Final = 0.05
_SHUFFLES: Final = 2000
_LEAST_SHUFFLES: Final = 400
_SHUFFLED_UNITS: Final = 4_000_000
# Each answer is credited with each target: more rows say the same.
_CREDITED_ROWS: Final = 500
# Values are compared to this precision, so that rounding decides nothing.
TINY: Final = 1e-9


def old_sets(evidence: GateEvidence) -> tuple[PairedScores, ...]:
    """Give the sets of earlier experiences that both versions answered."""
    return tuple(s for s in evidence.sets if not s.is_new and s.champion is not None and rows_of(s))


def new_sets(evidence: GateEvidence) -> tuple[PairedScores, ...]:
    """Give the sets of the experience on trial."""
    return tuple(s for s in evidence.sets if s.is_new and rows_of(s))


def fresh_sets(evidence: GateEvidence) -> tuple[PairedScores, ...]:
    """Give the rows on trial that no earlier update kept; nothing where none was kept."""
    pairs = new_sets(evidence)
    if not any(pair.kept for pair in pairs):
        return ()
    fresh = (only_rows(pair, sorted(set(range(rows_of(pair))) - set(pair.kept))) for pair in pairs)
    return tuple(pair for pair in fresh if rows_of(pair))


def rows_of(pair: PairedScores) -> int:
    """Give the number of rows of a set."""
    return pair.challenger.rows


def metric_of(
    evidence: GateEvidence, name: str | None = None
) -> Callable[[FloatArray], FloatArray]:
    """Give the function from sums of counts to a metric, turned so that more of it is better.

    `gate.metric` if none is named.

    Raises:
        ConfigError: When the task has no such metric.
    """
    wanted = spec_of(evidence, name)

    def metric(sums: FloatArray) -> FloatArray:
        values: FloatArray = wanted.oriented(
            evidence.task.summarise(sums, evidence.labels)[wanted.name]
        )
        return values

    return metric


def spec_of(evidence: GateEvidence, name: str | None = None) -> Metric:
    """Give what the task says of a metric, `gate.metric` if none is named.

    Raises:
        ConfigError: When the task has no such metric.
    """
    return metric_named(evidence.task, name or evidence.metric)


def titled(evidence: GateEvidence) -> str:
    """Name `gate.metric`, and say where less of it is better."""
    metric = spec_of(evidence)
    return metric.name if metric.higher_is_better else f"{metric.name} (less is better)"


def level(evidence: GateEvidence, value: float) -> str:
    """Write a value that `metric_of` gave, as people know the metric."""
    metric = spec_of(evidence)
    return amount(metric.oriented(value), metric)


def change(evidence: GateEvidence, value: float, *, sign: bool = True) -> str:
    """Write a difference of such values, or a margin; above 0 is better whatever the metric."""
    return amount(value, spec_of(evidence), sign=sign)


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
    evidence: GateEvidence,
    pairs: Sequence[PairedScores],
    *,
    resamples: int | None = None,
    stream: int = 0,
) -> PairedDifference:
    """Bootstrap challenger less champion over all rows of some sets together.

    Draws of another `stream` are independent.
    """
    import numpy as np

    champions = [pair.champion.statistics for pair in pairs if pair.champion is not None]
    result = paired_difference(
        np.concatenate(champions),
        np.concatenate([pair.challenger.statistics for pair in pairs]),
        metric_of(evidence),
        resamples=resamples or evidence.config.resamples,
        seed=evidence.seed + stream,
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
    if spec_of(evidence).is_share_of_rows:
        changes = count_changes(pairs)
        return sign_test(changes.lost, changes.won)
    return result.chance_of_harm()


def association_chance(
    task: Task, answers: Sequence[Target], targets: Sequence[Target], *, seed: int
) -> tuple[float, int] | None:
    """Say how probable so many right answers are, were answers and targets unrelated.

    The answers are dealt out to the rows anew; how often as many are right is the p-value. It does
    not depend on how common a label is: always answering the commonest label is chance.
    The units are the task's: for tags word by word, first within the words that both take for part
    of an entity (is it the right type?), and over all words where there is one type only. Values
    that hardly repeat are never quite the same: of these the credit of whole answers is added up.

    Returns:
        The p-value and the number of units compared, or None where every target is the same, so
        that chance cannot be told from knowledge.
    Source: Fisher, "The Design of Experiments", 1935 (the randomisation test).
    """
    import numpy as np

    given, expected = _units(task, answers, targets)
    if len(set(expected)) < 2:
        return None
    generator = np.random.default_rng(seed)
    if task.labelling == "value" and 2 * max(len(set(given)), len(set(expected))) > len(given):
        a, right = _by_credit(task, answers, targets, generator)
    else:
        a, right = _by_unit(given, expected)
    least = right(a) - TINY
    # Many units need fewer shuffles: their chance is near 0 or far from it.
    shuffles = max(_LEAST_SHUFFLES, min(_SHUFFLES, _SHUFFLED_UNITS // len(a)))
    block = max(1, _SHUFFLED_UNITS // 8 // len(a))
    as_many = 0
    for start in range(0, shuffles, block):
        dealt = np.tile(a, (min(block, shuffles - start), 1))
        as_many += int((right(generator.permuted(dealt, axis=1)) >= least).sum())
    return (as_many + 1) / (shuffles + 1), len(a)


def _by_unit(given: Sequence[str], expected: Sequence[str]) -> tuple[IntArray, _Right]:
    """Give the answers as numbers, and how many of them are right as they are dealt out."""
    import numpy as np

    names = {name: i for i, name in enumerate(sorted({*given, *expected}))}
    a = np.array([names[name] for name in given])
    t = np.array([names[name] for name in expected])
    return a, lambda dealt: np.asarray((dealt == t).sum(axis=-1))


def _by_credit(
    task: Task, answers: Sequence[Target], targets: Sequence[Target], generator: Generator
) -> tuple[IntArray, _Right]:
    """Give rows, at most `_CREDITED_ROWS`, and the credit of their answers as dealt out."""
    import numpy as np

    rows = list(range(len(targets)))
    if len(rows) > _CREDITED_ROWS:
        rows = generator.choice(rows, _CREDITED_ROWS, replace=False).tolist()
    credits = np.array([[task.credit(answers[i], targets[j]) for j in rows] for i in rows])
    a = np.arange(len(rows))
    return a, lambda dealt: np.asarray(credits[dealt, a].sum(axis=-1))


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
    least_told = change(evidence, margin, sign=False)
    if not pairs:
        needed = max(rows_needed(margin, _LEAST_DISAGREEMENT, confidence), least)
        return (
            "There is no held-out row of earlier experiences, so nothing shows what was lost; "
            f"{needed} tell a difference of {least_told} from chance in 4 cases of 5."
        )
    if rows >= least:
        return None
    apart = disagreement(evidence, pairs)
    needed = max(rows_needed(margin, apart, confidence), least)
    lowest = least_rows(margin, apart, confidence)
    assumed = f" ({percent(_LEAST_DISAGREEMENT)} is assumed)" if apart < _LEAST_DISAGREEMENT else ""
    return (
        f"Only {rows} held-out rows of earlier experiences: fewer than gate.min_evidence_rows = "
        f"{least}. The answers differ on {percent(apart)} of them{assumed}; to tell a difference "
        f"of {least_told} from chance, "
        + (f"{lowest - rows} more are the least, and " if lowest > rows else "")
        + f"{needed - rows} more do it in 4 cases of 5."
    )


def has_champion(evidence: GateEvidence) -> bool:
    """Say whether there is a champion to compare with."""
    return any(pair.champion is not None for pair in evidence.sets)


def disagreement(evidence: GateEvidence, pairs: Sequence[PairedScores]) -> float:
    """Give the share of rows on which champion and challenger answer differently."""
    rows = sum(map(rows_of, pairs))
    different = sum(
        sum(
            not evidence.task.agree(a, b)
            for a, b in zip(p.challenger.predictions, p.champion.predictions, strict=True)
        )
        for p in pairs
        if p.champion is not None
    )
    return different / rows if rows else 0.0


def _units(
    task: Task, answers: Sequence[Target], targets: Sequence[Target]
) -> tuple[list[str], list[str]]:
    given: list[str] = []
    expected: list[str] = []
    for answer, target in zip(answers, targets, strict=True):
        mine, theirs = task.units(answer), task.units(target)
        given.extend(mine)
        expected.extend(theirs)
    labelled = [
        (mine, theirs)
        for mine, theirs in zip(
            map(task.unit_label, given), map(task.unit_label, expected), strict=True
        )
        if mine is not None and theirs is not None
    ]
    if len({theirs for _, theirs in labelled}) > 1:
        return [mine for mine, _ in labelled], [theirs for _, theirs in labelled]
    return given, expected
