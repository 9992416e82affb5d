"""Exact tests on rows that changed sides, and the correction for many tests at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from contlearn.types import PairedScores

__all__ = ["Changes", "count_changes", "holm", "sign_test"]


class Changes(NamedTuple):
    """How many rows went from right to wrong, how many from wrong to right, and all."""

    lost: int
    won: int
    rows: int


def count_changes(pairs: Iterable[PairedScores]) -> Changes:
    """Count the rows that only one of the two answers right; a row counts as a whole."""
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
    return Changes(lost, won, rows)


def sign_test(lost: int, won: int) -> float:
    """Give the probability of at least so many losses if a loss and a win were equally likely.

    With the rows that changed sides this is McNemar's test, exact and one-sided.
    Source: McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions
    or Percentages", 1947.
    Example:
        >>> sign_test(5, 0)
        0.03125
    """
    total = lost + won
    term = tail = 1  # the ways to lose every row that changed
    for k in range(total, lost, -1):
        term = term * k // (total - k + 1)
        tail += term
    # Whole numbers first: 0.5 ** total alone would be 0 from about 1 100 rows on.
    return float(Fraction(tail, 1 << total))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number: step-down, valid whatever their dependence.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
