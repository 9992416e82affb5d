"""How far confidences can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from contlearn.types import PairedScores

__all__ = ["calibration_error", "reliability"]

_BINS: Final = 10


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
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins, error = [], 0.0
    for number in range(_BINS):
        inside = place == number
        rows = int(inside.sum())
        mean = float(confidence[inside].mean()) if rows else None
        share = float(right[inside].mean()) if rows else None
        bins.append({"rows": rows, "confidence": mean, "right": share})
        if mean is not None and share is not None:
            error += rows / len(confidence) * abs(mean - share)
    return {"bins": bins, "expected_calibration_error": error}


def calibration_error(pairs: Sequence[PairedScores]) -> float | None:
    """Give the mean gap between confidence and share right. Units: ratio, 0 to 1."""
    value = reliability(pairs)
    return None if value is None else float(value["expected_calibration_error"])


def _right(pair: PairedScores) -> Any:
    import numpy as np

    return np.array(
        [a == t for a, t in zip(pair.challenger.predictions, pair.targets, strict=True)],
        dtype=float,
    )
