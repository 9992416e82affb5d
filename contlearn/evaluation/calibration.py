"""How far confidences can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from contlearn.statistics.calibration import mean_gap, reliability_bins
from contlearn.types import PairedScores

__all__ = ["calibration_error", "reliability"]


def reliability(pairs: Sequence[PairedScores]) -> dict[str, Any] | None:
    """Sort the challenger's answers by confidence into ten bins, and compare with how many hold.

    Returns:
        `bins` (rows, mean confidence, share right of each) and `expected_calibration_error`, or
        None for a task without one confidence a row, or when one is no probability.
    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    import numpy as np

    scores = [pair.challenger for pair in pairs if pair.targets]
    if not scores or any(len(s.confidences) != s.rows for s in scores):
        return None
    confidence = np.concatenate([np.asarray(s.confidences) for s in scores])
    if not ((confidence >= 0.0) & (confidence <= 1.0 + 1e-6)).all():
        return None
    right = np.concatenate([_right(pair) for pair in pairs if pair.targets])
    bins = reliability_bins(confidence, right)
    return {
        "bins": [asdict(one) for one in bins],
        "expected_calibration_error": mean_gap(bins),
    }


def calibration_error(pairs: Sequence[PairedScores]) -> float | None:
    """Give the mean gap between confidence and share right. Units: ratio, 0 to 1."""
    value = reliability(pairs)
    return None if value is None else float(value["expected_calibration_error"])


def _right(pair: PairedScores) -> Any:
    import numpy as np

    return np.array([credit >= 1.0 for credit in pair.challenger.credits], dtype=float)
