"""Intervals of a share."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["wilson", "wilson_lower"]


def wilson(successes: int, rows: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Give the two-sided interval of a share; everything where there are no rows.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    Example:
        >>> tuple(round(v, 3) for v in wilson(8, 10))
        (0.49, 0.943)
    """
    if rows <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    half /= 1 + z * z / rows
    return max(0.0, middle - half), min(1.0, middle + half)


def wilson_lower(successes: int, rows: int, *, confidence: float) -> float:
    """Give the lower end of the one-sided interval of a share.

    Example:
        >>> round(wilson_lower(10, 100, confidence=0.95), 4)
        0.0607
    """
    return wilson(successes, rows, confidence=2 * confidence - 1)[0]
