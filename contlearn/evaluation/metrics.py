"""Measures of continual learning, as pure functions of the accuracy matrix.

Row t holds the model after experience t, column k the held-out set of experience k. What was not
measured is nan, and left out of every mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from contlearn.errors import EvaluationError
from contlearn.types import Metric

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["as_matrix", "average_accuracy", "backward_transfer", "forgetting", "forgetting_by_set"]


def as_matrix(rows: Sequence[Sequence[float | None]]) -> FloatArray:
    """Make a square array of rows of any length; what is missing or null becomes nan.

    Example:
        >>> as_matrix([[0.9], [0.7, None]])
        array([[0.9, nan],
               [0.7, nan]])
    """
    import numpy as np

    size = max([len(rows), *(len(row) for row in rows)], default=0)
    matrix = np.full((size, size), np.nan)
    for t, row in enumerate(rows):
        for k, value in enumerate(row):
            if value is not None:
                matrix[t, k] = value
    return matrix


def average_accuracy(accuracy: FloatArray) -> float:
    """Say how well the last model does on average over the experiences so far.

    Args:
        accuracy: Row t holds the model after experience t, column k held-out set k.
    Shape: accuracy (T, T), T >= 1, lower triangle filled.
    Units: ratio, 0 to 1.
    Raises:
        EvaluationError: When nothing was measured after the last experience.
    Source: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", 2017.
    Example:
        >>> average_accuracy(as_matrix([[0.9], [0.7, 0.8]]))
        0.75
    """
    import numpy as np

    last = accuracy[-1] if len(accuracy) else accuracy
    measured = last[~np.isnan(last)]
    if measured.size == 0:
        raise EvaluationError(
            "Average accuracy is undefined: nothing was measured.",
            where="the last row of the accuracy matrix",
            hint="Bring held-out rows: `contlearn ingest --held-out`, or a larger held_out_ratio.",
        )
    return float(measured.mean())


def forgetting_by_set(
    rows: Sequence[Sequence[float | None]], metric: Metric | None = None
) -> list[float | None]:
    """Say, for each earlier experience, how far its best value has fallen; positive is bad.

    Without numpy, which the daemon does without.

    Args:
        rows: Row t holds the model after experience t, column k held-out set k; null or nan where
            nothing was measured.
        metric: What they are values of; without it more is better.
    Returns:
        For k < T - 1: the best of rows k to T - 2 less the last row; null where not measured.
    Example:
        >>> forgetting_by_set([[0.9], [0.7, 0.8], [0.8, 0.6, 0.9]])
        [0.1, 0.2]
        >>> forgetting_by_set([[0.5], [0.8, 0.4]], Metric(name="mae", higher_is_better=False))
        [0.3]
    """

    def value(row: Sequence[float | None], k: int) -> float | None:
        found = row[k] if k < len(row) else None
        if found is None or math.isnan(found):
            return None
        return found if metric is None else float(metric.oriented(found))

    lost: list[float | None] = []
    for k in range(len(rows) - 1):
        before = [found for row in rows[k:-1] if (found := value(row, k)) is not None]
        now = value(rows[-1], k)
        lost.append(max(before) - now if before and now is not None else None)
    return lost


def forgetting(accuracy: FloatArray) -> float:
    """Say how much of what was once known is lost now.

    The mean over k < t of (max over k <= l < t of R[l, k]) - R[t, k]; positive is bad.

    Args:
        accuracy: Row t holds the model after experience t, column k held-out set k.
    Shape: accuracy (T, T), T >= 2, lower triangle filled.
    Units: ratio, -1 to 1.
    Raises:
        EvaluationError: With fewer than two experiences, because the value is undefined.
    Source: after Chaudhry et al., "Riemannian Walk for Incremental Learning", 2018.
    Example:
        >>> forgetting(as_matrix([[0.9], [0.7, 0.8], [0.8, 0.6, 0.9]]))  # (0.1 + 0.2) / 2
        0.15
    """
    import numpy as np

    _need_two(accuracy, "Forgetting")
    lost = forgetting_by_set(accuracy.tolist())
    return _mean(np.array([value for value in lost if value is not None]), "Forgetting")


def backward_transfer(accuracy: FloatArray) -> float:
    """Say how much later learning changed what was known before.

    The mean over k < t of R[t, k] - R[k, k]; negative means something was lost.

    Args:
        accuracy: Row t holds the model after experience t, column k held-out set k.
    Shape: accuracy (T, T), T >= 2, lower triangle filled.
    Units: ratio, -1 to 1.
    Raises:
        EvaluationError: With fewer than two experiences, because the value is undefined.
    Source: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", 2017.
    Example:
        >>> backward_transfer(as_matrix([[0.9], [0.7, 0.8]]))
        -0.2
    """
    import numpy as np

    _need_two(accuracy, "Backward transfer")
    change = accuracy[-1, :-1] - np.diagonal(accuracy)[:-1]
    return _mean(change[~np.isnan(change)], "Backward transfer")


def _need_two(accuracy: FloatArray, name: str) -> None:
    if len(accuracy) < 2:
        raise EvaluationError(
            f"{name} is undefined before the second experience.",
            where=f"an accuracy matrix of {len(accuracy)} rows",
            hint="Learn another experience first.",
        )


def _mean(values: FloatArray, name: str) -> float:
    if values.size == 0:
        raise EvaluationError(
            f"{name} is undefined: no earlier experience was measured before and after.",
            where="the accuracy matrix",
            hint="Bring held-out rows: `contlearn ingest --held-out`, or a larger held_out_ratio.",
        )
    return float(values.mean())
