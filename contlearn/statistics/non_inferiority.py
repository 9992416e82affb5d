"""Is a share of rows lower by less than a margin, of two that were measured on the same rows?"""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["shift_bound", "shift_score"]

# Halvings of the interval that a bound is looked for in.
_HALVINGS = 60


def shift_score(won: int, lost: int, rows: int, margin: float) -> float:
    """Give how many standard errors the difference of two shares lies above `-margin`.

    Only rows that one of the two has right and the other wrong say anything. Their spread is taken
    as it most likely is where the true difference is just `-margin`, so that the error stays at its
    level with few rows too, and far out, where a level of one in ten thousand is asked for.

    Args:
        won: Rows right now and wrong before.
        lost: Rows wrong now and right before.
        rows: All rows, those included on which both are right or both wrong.
        margin: The loss that is compared with, from -1 to 1; below 0 a gain.
    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for
        the paired-sample design", Statistics in Medicine 17, 1998.
    Example:
        >>> round(shift_score(30, 30, 1000, 0.03), 2)
        3.56
    """
    at = -margin
    linear = (2 * rows - won + lost) * at - won - lost
    discriminant = linear**2 + 8 * rows * lost * at * (1.0 - at)
    share_lost = (math.sqrt(max(discriminant, 0.0)) - linear) / (4 * rows)
    variance = rows * (2.0 * share_lost + at * (1.0 - at))
    above = won - lost - rows * at
    if variance <= 1e-12:
        return math.copysign(math.inf, above) if abs(above) > 1e-9 else 0.0
    return above / math.sqrt(variance)


def shift_bound(won: int, lost: int, rows: int, confidence: float) -> float:
    """Give the difference that the true one exceeds with this confidence, one-sided.

    Example:
        >>> round(shift_bound(30, 30, 1000, 0.95), 4)
        -0.013
    """
    asked = NormalDist().inv_cdf(confidence)
    low, high = -1.0, (won - lost) / rows
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if shift_score(won, lost, rows, -middle) > asked:
            low = middle
        else:
            high = middle
    return low
