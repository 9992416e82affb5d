"""What a model thinks its new records are worth to a replay buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from contlearn.statistics.scores import log_softmax
from contlearn.training.scoring import features_of, logits_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from contlearn.training.session import FitSession

    Floats = NDArray[np.float64]

__all__ = ["herding_order", "record_priorities"]

# So that a record the model is sure of keeps a chance.
_LEAST_WEIGHT: Final = 0.05


def record_priorities(session: FitSession, kind: str) -> dict[str, float]:
    """Give each new record a priority under the model as it is now; higher is kept longer.

    Args:
        session: After the strategy learnt.
        kind: One of `contlearn.interfaces.PRIORITIES`, on a task that gives what it needs.
    """
    data = session.encode(session.new_records)
    owners = data.owners.numpy()
    names = [record.record_id for record in data.records]
    found = dict.fromkeys(names, -1.0)
    if kind == "herding":
        features = features_of(session.model, data)
        keys = [session.task.balance_key(data.records[i].target) for i in owners.tolist()]
        for key in sorted(set(keys)):
            rows = [i for i, k in enumerate(keys) if k == key]
            for rank, row in enumerate(herding_order(features[rows])):
                found[names[int(owners[rows[row]])]] = -float(rank)
        return found
    scores = log_softmax(logits_of(session.model, data))
    if kind == "loss":
        values = -scores[np.arange(len(scores)), data.flat.numpy()]
    else:
        values = -(np.exp(scores) * scores).sum(axis=1)
    per_window = np.diff(data.offsets.numpy())
    of_row = np.repeat(owners, per_window)
    sums = np.bincount(of_row, weights=values, minlength=len(names))
    counts = np.bincount(of_row, minlength=len(names))
    means = sums / np.maximum(counts, 1)
    weights = _LEAST_WEIGHT + means / max(float(means.max(initial=0.0)), 1e-12)
    generator = np.random.default_rng([session.seed, session.state.experiences, 1])
    draws = generator.random(len(names))
    return {name: float(d ** (1.0 / w)) for name, d, w in zip(names, draws, weights, strict=True)}


def herding_order(features: Floats) -> list[int]:
    """Order rows so that the mean of the first k comes near the mean of all, for every k.

    Shape: features (n, D).
    Example:
        >>> herding_order(np.array([[0.0, 1.0], [1.0, 0.0], [0.7, 0.7]]))[0]
        2
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    mean = unit.mean(axis=0)
    taken: list[int] = []
    total = np.zeros_like(mean)
    left = list(range(len(unit)))
    while left:
        distances = np.linalg.norm(mean - (total + unit[left]) / (len(taken) + 1), axis=1)
        best = left.pop(int(np.argmin(distances)))
        taken.append(best)
        total += unit[best]
    return taken
