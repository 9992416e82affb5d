"""Accuracy in production: estimated from confidences, measured as soon as labels come.

The estimate believes a confidence as far as the held-out rows of the same version did: a curve with
two parameters from confidence to the chance of being right, fitted on them. It holds where texts
change within what the model knows (other shares, harder texts). It cannot hold for texts unlike
all that was held out, on which a model may be sure and wrong: then the drift detectors speak, and
`widened` says that the interval was opened because they do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from contlearn.statistics.intervals import wilson

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = [
    "Calibration",
    "Interval",
    "estimate_accuracy",
    "measure_accuracy",
]

_REFITS: Final = 200
_ROUNDS: Final = 8
_CLIP: Final = 5e-4
# Rows that the prior "confidences mean what they say" counts for.
_PRIOR_ROWS: Final = 10.0
_MIN_CALIBRATION: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An accuracy with its 95 % interval. Units: ratios, 0 to 1."""

    value: float
    low: float
    high: float
    records: int
    widened: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "records": self.records,
            "widened": self.widened,
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """Held-out rows of a version: how sure it was, and whether it was right.

    Shape: confidence (n,), right (n,) of 0 and 1.
    """

    confidence: FloatArray
    right: FloatArray

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def accuracy(self) -> float | None:
        """Give the share of right answers; None without rows."""
        return float(self.right.mean()) if len(self) else None


def estimate_accuracy(
    confidence: FloatArray,
    calibration: Calibration,
    *,
    detected: bool = False,
    flagged: Sequence[bool] | None = None,
    flag_rate: float = 0.0,
    seed: int = 17,
) -> Interval | None:
    """Estimate the share of right answers in a window without labels.

    The interval holds what is not known: the curve (refitted on resampled held-out rows) and the
    luck of the window's own size. Where drift was found it is opened downwards by as much error
    again as is estimated, because the curve was not made for such texts (a rule of thumb: over the
    real changes of the benchmark, half of that held the measured accuracy too rarely).

    Of the texts flagged as unknown, those beyond `flag_rate` count half: the curve knows only what
    was held out, of which so many are flagged. Out of scope they are wrong, misspelt they are often
    right, and nothing without labels tells which. So the upper bound stays as if they were as right
    as the curve says, and the lower one takes them as wrong, and as many again, because the flag
    misses about as many as it finds.

    Args:
        confidence: Calibrated confidences of the window; NaN is left out.
        calibration: Held-out rows of the same version.
        detected: Drift was found in this window.
        flagged: Whether each text was flagged as unknown; as long as `confidence`.
        flag_rate: The share of held-out texts that is flagged.
        seed: Of the resampling.
    Returns:
        The estimate, or None when either side has too few rows.
    Source: confidence-based performance estimation; Platt, "Probabilistic Outputs for Support
        Vector Machines", 1999, for the curve with a prior.
    """
    finite = np.isfinite(confidence)
    window = _logit(np.asarray(confidence)[finite])
    if not len(window) or len(calibration) < _MIN_CALIBRATION:
        return None
    features, right = _logit(calibration.confidence), np.asarray(calibration.right, dtype=float)
    generator = np.random.default_rng(seed)
    count = len(features)
    curve = _fit_curve(features, right)
    chances = _chance(window, curve)
    lost = 0.0 if flagged is None else _lost(chances, np.asarray(flagged)[finite], flag_rate)
    value = float(chances.mean()) - lost / 2
    drawn = []
    for _ in range(_REFITS):
        at = generator.integers(0, count, count)
        chance = _chance(window, _fit_curve(features[at], right[at], start=curve))
        spread = math.sqrt(float((chance * (1 - chance)).sum())) / len(window)
        drawn.append(float(chance.mean()) + spread * float(generator.normal()))
    low, high = (float(np.quantile(drawn, q)) for q in (0.025, 0.975))
    low -= 2 * lost
    if detected:
        low -= 1 - value
    return Interval(
        value=value,
        low=max(0.0, low),
        high=min(1.0, high),
        records=len(window),
        widened=detected,
    )


def _lost(chances: FloatArray, flagged: FloatArray, rate: float) -> float:
    """Give what is lost when the flagged texts beyond the usual share are wrong. Units: ratio."""
    found = int(flagged.sum())
    beyond = max(0.0, found - rate * len(flagged))
    return float(chances[flagged].sum()) * beyond / found / len(flagged) if beyond else 0.0


def measure_accuracy(right: Sequence[bool]) -> Interval | None:
    """Give the share of right answers with Wilson's interval; None without rows."""
    if not right:
        return None
    low, high = wilson(sum(right), len(right))
    return Interval(value=sum(right) / len(right), low=low, high=high, records=len(right))


def _logit(confidence: FloatArray) -> FloatArray:
    clipped = np.clip(np.asarray(confidence, dtype=float), _CLIP, 1 - _CLIP)
    result: FloatArray = np.log(clipped / (1 - clipped))
    return result


def _chance(features: FloatArray, curve: FloatArray) -> FloatArray:
    result: FloatArray = 1 / (1 + np.exp(-(curve[0] * features + curve[1])))
    return result


def _fit_curve(
    features: FloatArray, right: FloatArray, *, start: FloatArray | None = None
) -> FloatArray:
    """Fit slope and offset by Newton's method, with a prior at slope 1 and offset 0."""
    prior = np.array([1.0, 0.0])
    curve = prior.copy() if start is None else start.copy()
    columns = np.stack([features, np.ones_like(features)], axis=1)
    for _ in range(_ROUNDS if start is None else 3):
        chance = _chance(features, curve)
        weight = np.maximum(chance * (1 - chance), 1e-6)
        gradient = columns.T @ (chance - right) + _PRIOR_ROWS * 0.25 * (curve - prior)
        curvature = (columns * weight[:, None]).T @ columns + _PRIOR_ROWS * 0.25 * np.eye(2)
        curve = curve - np.linalg.solve(curvature, gradient)
    return curve
