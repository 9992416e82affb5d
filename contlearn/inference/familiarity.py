"""How familiar a text is to a classifier: what it was never taught it should say so.

Source: Liu et al., "Energy-based Out-of-distribution Detection", 2020; Hendrycks and Gimpel, "A
Baseline for Detecting Misclassified and Out-of-Distribution Examples", 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from contlearn.statistics.scores import free_energy, softmax

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["MIN_ROWS", "SCORE", "Score", "calibrate", "familiarity", "is_unknown"]

Score: TypeAlias = Literal["energy", "probability"]
SCORE: Final[Score] = "energy"
# Below this many held-out texts a quantile of a twentieth says nothing.
MIN_ROWS: Final = 60


def familiarity(logits: FloatArray, score: Score, temperature: float = 1.0) -> FloatArray:
    """Score how familiar texts are; higher is more familiar.

    `energy` is the negative free energy, T · logsumexp(logits / T); `probability` is the largest
    calibrated probability.

    Shape: logits (B, C) or (C,); the result (B,) or ().
    Example:
        >>> import numpy as np
        >>> float(familiarity(np.array([0.0, 0.0]), "probability"))
        0.5
        >>> float(familiarity(np.array([0.0, 0.0]), "energy"))  # log 2
        0.693
    """
    if score == "energy":
        return free_energy(logits, temperature)
    result: FloatArray = softmax(logits, temperature).max(axis=-1)
    return result


def calibrate(
    logits: Sequence[FloatArray], score: Score, temperature: float = 1.0, *, rate: float = 0.05
) -> dict[str, Any] | None:
    """Choose the threshold below which a text counts as unknown.

    Args:
        logits: Of held-out texts that the model should know.
        score: See `familiarity`.
        temperature: The model's.
        rate: The share of known texts that may be flagged.
    Returns:
        What goes into the manifest; None when there are too few texts to tell.
    Units: ratio, 0 to 1, for `rate`.
    """
    import numpy as np

    if len(logits) < MIN_ROWS:
        return None
    values = familiarity(np.stack(list(logits)), score, temperature)
    # The lower of two neighbours, so that at most `rate` of these texts lie below.
    threshold = float(np.quantile(values, rate, method="lower"))
    return {
        "score": score,
        "threshold": threshold,
        "rate": rate,
        "rows": len(logits),
    }


def is_unknown(logits: FloatArray, rule: Mapping[str, Any], temperature: float) -> bool:
    """Say whether a text is unknown by a calibrated rule."""
    return bool(familiarity(logits, rule["score"], temperature) < rule["threshold"])
