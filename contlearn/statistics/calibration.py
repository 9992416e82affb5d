"""How far confidences can be believed: reliability in bins, its mean gap, the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from contlearn.statistics.scores import log_softmax

if TYPE_CHECKING:
    from contlearn.types import FloatArray, IntArray

__all__ = ["Bin", "adaptive_calibration_error", "fit_temperature", "mean_gap", "reliability_bins"]

_BINS: Final = 10
# Below so many rows chance alone makes a gap of ten points.
_LEAST_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers of one stretch of confidence: rows, mean confidence, and the share right."""

    rows: int
    confidence: float | None
    right: float | None


def reliability_bins(confidence: FloatArray, right: FloatArray) -> tuple[Bin, ...]:
    """Sort answers by confidence into ten bins of equal width, and see how many of each hold.

    Shape: confidence and right (rows,), rows >= 1.
    Units: ratios, 0 to 1.
    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    import numpy as np

    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = place == number
        rows = int(inside.sum())
        mean = float(confidence[inside].mean()) if rows else None
        share = float(right[inside].mean()) if rows else None
        bins.append(Bin(rows, mean, share))
    return tuple(bins)


def mean_gap(bins: Sequence[Bin]) -> float:
    """Give the expected calibration error: the mean gap between confidence and share right.

    Units: ratio, 0 to 1.
    Example:
        >>> mean_gap([Bin(3, 0.9, 0.8), Bin(1, 0.5, 0.5), Bin(0, None, None)])
        0.075
    """
    total, error = sum(one.rows for one in bins), 0.0
    for one in bins:
        if one.confidence is not None and one.right is not None:
            error += one.rows / total * abs(one.confidence - one.right)
    return error


def adaptive_calibration_error(confidence: FloatArray, right: Sequence[bool]) -> float | None:
    """Give the mean gap between confidence and share right over ten bins of equal size.

    Units: ratio, 0 to 1. None below 100 rows, where chance alone makes a gap of ten points.
    Source: Nixon et al., "Measuring Calibration in Deep Learning", 2019 (adaptive bins).
    """
    import numpy as np

    values = np.asarray(confidence, dtype=float)
    truth = np.asarray(right, dtype=float)
    finite = np.isfinite(values)
    values, truth = values[finite], truth[finite]
    if len(values) < _LEAST_ROWS:
        return None
    order = values.argsort(kind="stable")
    error = 0.0
    for part in np.array_split(order, _BINS):
        error += len(part) / len(values) * abs(float(values[part].mean() - truth[part].mean()))
    return error


def fit_temperature(logits: Any, targets: IntArray, *, centre: float = 1.0) -> float:
    """Find the temperature under which the right labels are most probable.

    It leans towards `centre`, as much as one row says at most; without rows that is the answer.

    Shape: logits (rows, C), targets (rows,).
    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    import numpy as np

    if not len(logits):
        return centre
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(targets))
    middle = float(np.log(centre))

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits, np.exp(log_temperature))[rows, targets]
        return float(-scores.mean() + (log_temperature - middle) ** 2 / len(rows))

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(1000.0)), method="bounded")
    return float(np.exp(found.x))
