"""Exact tests."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["sign_test"]


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
