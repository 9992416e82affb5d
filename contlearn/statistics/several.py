"""Several tests at once: correcting p-values for their number, and combining them into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

__all__ = ["cauchy", "holm"]

# A p-value above this counts as this when p-values are combined.
_MOST: Final = 0.9


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


def cauchy(p_values: Sequence[float]) -> float:
    """Combine p-values of tests that depend on each other into one.

    Detectors that look at the same thing in three ways cost a correction by their number dearly;
    here they count about once. The tail is exact whatever the dependence, the smaller the better.
    What is above 0.9 counts as 0.9: a detector that sees nothing at all (p = 1, as for unknown
    pieces where there never are any) would otherwise outweigh one that is sure.
    Source: Liu and Xie, "Cauchy Combination Test", JASA 2020; Fang et al., "Heavy-Tailed
        Distribution for Combining Dependent p-Values with Asymptotic Robustness", 2023, for the
        truncation.
    Example:
        >>> round(cauchy([0.01, 0.01, 0.01]), 4), round(cauchy([0.001, 0.5, 0.5, 0.5]), 4)
        (0.01, 0.004)
    """
    if not p_values:
        return 1.0
    total = 0.0
    for p_value in p_values:
        p = min(max(p_value, 1e-15), _MOST)
        total += math.tan((0.5 - p) * math.pi) if p > 1e-10 else 1 / (p * math.pi)
    mean = total / len(p_values)
    return 0.5 - math.atan(mean) / math.pi if mean < 1e8 else 1 / (mean * math.pi)
