"""Which texts are most worth a label: those the model is least sure of, that are new, and differ.

Pure functions over arrays; where the texts come from and go to is in `operations.suggest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contlearn.statistics.scores import free_energy, softmax

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["choose", "ranks", "strangeness", "uncertainty"]


def uncertainty(logits: FloatArray, temperature: float = 1.0) -> float:
    """Say how unsure the model is: one minus the margin between its best two labels.

    For tags the least certain word speaks for the sentence.

    Shape: logits (C,) or (words, C).
    Units: ratio, 0 (sure) to 1 (two labels are equal).
    Source: Scheffer, Decomain and Wrobel, "Active Hidden Markov Models", 2001 (margin sampling).
    Example:
        >>> import numpy as np
        >>> uncertainty(np.array([3.0, 3.0, -9.0]))
        1.0
    """
    import numpy as np

    rows = np.atleast_2d(np.asarray(logits, dtype=np.float64)) / temperature
    if rows.size == 0 or rows.shape[-1] < 2:
        return 0.0
    ordered = np.sort(softmax(rows), axis=-1)
    return float(1.0 - (ordered[:, -1] - ordered[:, -2]).min())


def strangeness(logits: FloatArray, temperature: float = 1.0) -> float:
    """Say how unlike known texts a text is: its free energy; for tags that of the strangest word.

    Shape: logits (C,) or (words, C).
    Source: Liu et al., "Energy-based Out-of-distribution Detection", 2020.
    """
    import numpy as np

    rows = np.atleast_2d(np.asarray(logits, dtype=np.float64))
    if rows.size == 0:
        return 0.0
    return -float(free_energy(rows, temperature).min())


def ranks(values: Sequence[float]) -> FloatArray:
    """Put values on one scale by their rank, equal ones together.

    Units: ratio, above 0 to 1.
    Example:
        >>> ranks([5.0, 1.0, 5.0]).tolist()
        [1.0, 0.333, 1.0]
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    ordered = np.sort(array)
    result: FloatArray = np.searchsorted(ordered, array, side="right") / max(1, len(array))
    return result


def choose(worth: FloatArray, vectors: FloatArray, count: int) -> list[int]:
    """Choose texts that are worth much and unlike each other.

    The first is the one worth most; each further one has the largest product of its worth and its
    distance from the nearest one chosen. So ten copies of one strange text are suggested once.

    Args:
        worth: Of each text, above 0.
        vectors: Where each text lies.
        count: How many at most.
    Returns:
        Their positions, the most worth first. Texts at the place of a chosen one are left out.
    Shape: worth (N,), vectors (N, D).
    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985, weighted.
    """
    import numpy as np

    count = min(count, len(worth))
    if count == 0:
        return []
    chosen = [int(np.argmax(worth))]
    nearest = np.linalg.norm(vectors - vectors[chosen[0]], axis=1)
    while len(chosen) < count:
        gain = worth * nearest
        best = int(np.argmax(gain))
        if gain[best] <= 1e-9:
            break
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[best], axis=1))
    return chosen
