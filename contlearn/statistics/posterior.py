"""What few rows say of a true difference: its distribution, given what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from contlearn.types import FloatArray

__all__ = ["chance_of_loss", "posterior_differences"]

# Half a row more of each kind than was seen: Jeffreys' prior of three shares.
_HALF: Final = 0.5
_NODES: Final = 64
_BLOCK: Final = 4_000_000


def chance_of_loss(lost: ArrayLike, won: ArrayLike, rows: ArrayLike, margin: float) -> FloatArray:
    """Give the chance that the true share of right rows fell by `margin` or more.

    The shares of rows lost, won and left the same are taken to be a Dirichlet distribution, before
    anything is seen with half a row of each (Jeffreys' prior): neither of two versions is thought
    better, and nothing is thought of how much they differ. The share that changed and the part of
    it that was lost are independent beta distributions then, so that one integral is left; it is
    computed by Gauss and Legendre's rule over the quantiles of the share that changed.

    Args:
        lost: Rows that went from right to wrong.
        won: Rows that went from wrong to right.
        rows: All rows.
        margin: The loss in question, above 0.
    Shape: lost, won and rows broadcast; the answer has their shape.
    Source: Jeffreys, "An Invariant Form for the Prior Probability in Estimation Problems", 1946;
    Altham, "Exact Bayesian Analysis of a 2 x 2 Contingency Table, and Fisher's Exact Significance
    Test", 1969 (Bayesian comparison of shares).
    Example:
        >>> round(float(chance_of_loss(2, 3, 42, 0.03)), 3)
        0.155
    """
    import numpy as np
    from scipy.special import betainc, betaincinv

    lost, won, rows = (
        np.asarray(value, dtype=np.float64)[..., None] for value in (lost, won, rows)
    )
    mine, other = lost + _HALF, won + _HALF
    changed, same = mine + other, rows - lost - won + _HALF
    points, weights = np.polynomial.legendre.leggauss(_NODES)
    least = betainc(changed, same, min(margin, 1.0))  # as much must have changed at least
    share = betaincinv(changed, same, least + (1.0 - least) * (points + 1.0) / 2.0)
    # Of this share so much may be won at most, that the loss is still the margin.
    may_be_won = np.clip((1.0 - margin / np.maximum(share, margin)) / 2.0, 0.0, 1.0)
    chance: FloatArray = (1.0 - least[..., 0]) * (betainc(other, mine, may_be_won) @ weights) / 2.0
    return chance


def posterior_differences(
    champion: FloatArray,
    challenger: FloatArray,
    metric: Callable[[FloatArray], FloatArray],
    *,
    right: FloatArray,
    wrong: FloatArray,
    draws: int,
    seed: int,
) -> FloatArray:
    """Draw differences, challenger less champion, of any metric of sums of counts.

    Each draw gives every row a random weight (the Bayesian bootstrap), and half a row more is lost
    and half a row won, so that what was never seen is not taken for impossible. What a row counts
    when it is answered right and wrong is drawn from pairs of both. For a share of rows it is the
    distribution of `chance_of_loss`, but for its half row that stays the same.

    Args:
        champion: Counts of each row.
        challenger: Counts of the same rows, in the same order.
        metric: Turns sums of counts into the metric.
        right: Counts of rows as they are answered right.
        wrong: Counts of the same rows as they are answered wrong.
        draws: How often the weights are drawn.
        seed: Of the draws.
    Shape: champion and challenger (rows, S), right and wrong (pairs, S), pairs >= 1; metric maps
    (..., S) to (...); the answer (draws,).
    Source: Rubin, "The Bayesian Bootstrap", 1981.
    """
    import numpy as np

    rows, pairs = len(champion), len(right)
    generator = np.random.default_rng(seed)
    block = max(1, min(draws, _BLOCK // rows))
    parts = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        seen = generator.standard_exponential((size, rows))
        lost, won = generator.gamma(_HALF, size=(2, size, 1))
        one, other = generator.integers(pairs, size=(2, size))
        scale = (rows + 2 * _HALF) / (seen.sum(axis=1, keepdims=True) + lost + won)
        before = scale * (seen @ champion + lost * right[one] + won * wrong[other])
        after = scale * (seen @ challenger + lost * wrong[one] + won * right[other])
        parts.append(metric(after) - metric(before))
    # Rounding must not make equal differences unequal.
    drawn: FloatArray = np.round(np.concatenate(parts), 12)
    return drawn
