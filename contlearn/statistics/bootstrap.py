"""Paired bootstrap of a metric that is a function of additive counts.

Champion and challenger answer the same rows, so rows are drawn, never answers: what makes a row
hard is hard for both, and cancels. A draw is a reweighing: weights @ statistics gives the sums
that the task turns into the metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

    from contlearn.types import FloatArray, IntArray

__all__ = ["PairedDifference", "paired_difference"]

# Bytes of one block of draws.
_BLOCK: Final = 64_000_000
# One binomial draw costs about as much as drawing so many rows.
_ROWS_PER_KIND: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Challenger less champion: what was observed, and how it varies when rows are drawn again.

    `differing` rows are counted differently for the two: what varies comes from them alone.
    `acceleration` is the skewness term of the BCa interval.
    """

    rows: int
    differing: int
    champion: float
    challenger: float
    draws: FloatArray
    acceleration: float

    @property
    def observed(self) -> float:
        """The difference on the rows as they are."""
        return self.challenger - self.champion

    def lower_bound(self, confidence: float) -> float:
        """Give the value that the true difference exceeds with this confidence, one-sided.

        The lower of the percentile and the bias-corrected accelerated (BCa) bound: the percentile
        bound is too bold when the challenger's losses are few and skewed, BCa when all rows agree.
        Both are taken further out as Student's t is, because the spread is known only from the
        rows that differ, and those may be a dozen.
        Source: Efron, "Better Bootstrap Confidence Intervals", 1987; Hesterberg, "What Teachers
        Should Know About the Bootstrap", 2015 (the expanded percentile interval).
        """
        share = self._expanded(1.0 - confidence)
        return min(self._quantile(share), self._accelerated(share))

    def chance_of_harm(self) -> float:
        """Give the p-value of "the challenger is not worse": small when it is truly worse."""
        return float(((self.draws >= 0).sum() + 1) / (len(self.draws) + 1))

    def _expanded(self, share: float) -> float:
        """Give the smaller share that a normal distribution leaves where t leaves `share`."""
        from scipy.special import ndtr, stdtrit

        if self.differing < 2:
            return share
        wider = float(stdtrit(self.differing - 1, share)) * (self.rows / (self.rows - 1)) ** 0.5
        return float(ndtr(wider))

    def _quantile(self, share: float) -> float:
        import numpy as np

        # Without interpolation: differences of counts are discrete, between them is nothing.
        return float(np.quantile(self.draws, share, method="lower" if share < 0.5 else "higher"))

    def _accelerated(self, share: float) -> float:
        normal = NormalDist()
        below = float((self.draws < self.observed).mean())
        below += 0.5 * float((self.draws == self.observed).mean())
        # With all draws on one side the correction is not defined; a hundredth of a draw keeps it.
        edge = 0.01 / len(self.draws)
        bias = normal.inv_cdf(min(max(below, edge), 1.0 - edge))
        shifted = bias + normal.inv_cdf(share)
        level = normal.cdf(bias + shifted / max(1.0 - self.acceleration * shifted, 1e-9))
        return self._quantile(min(max(level, 0.0), 1.0))


def paired_difference(
    champion: FloatArray,
    challenger: FloatArray,
    metric: Callable[[FloatArray], FloatArray],
    *,
    resamples: int,
    seed: int,
) -> PairedDifference:
    """Compare two versions on the same rows.

    Args:
        champion: Counts of each row.
        challenger: Counts of the same rows, in the same order.
        metric: Turns sums of counts into the metric.
        resamples: How often the rows are drawn again.
        seed: Of the draws.
    Shape: champion and challenger (rows, S), rows >= 1; metric maps (..., S) to (...).
    """
    import numpy as np

    rows, size = champion.shape
    # Rows with equal counts are one kind of row: drawing kinds is the same and much less work.
    both = np.ascontiguousarray(np.concatenate([champion, challenger], axis=1))
    kinds: dict[bytes, int] = {}
    first, kind_of = [], np.empty(rows, dtype=np.int64)
    for row in range(rows):
        key = both[row].tobytes()
        if key not in kinds:
            kinds[key] = len(kinds)
            first.append(row)
        kind_of[row] = kinds[key]
    counts = np.bincount(kind_of)
    values = both[first].astype(np.float64)  # (kinds, 2 S)

    def difference(sums: FloatArray) -> FloatArray:
        changed: FloatArray = metric(sums[..., size:]) - metric(sums[..., :size])
        return changed

    total = counts @ values
    generator = np.random.default_rng(seed)
    draw = _draw_rows if rows <= _ROWS_PER_KIND * len(counts) else _draw_kinds
    block = max(1, min(resamples, _BLOCK // (8 * max(rows, len(counts), 2 * size))))
    parts = []
    for start in range(0, resamples, block):
        drawn = draw(generator, kind_of, counts, min(block, resamples - start))  # (block, kinds)
        parts.append(difference(drawn @ values))
    # Rounding must not make equal differences unequal.
    draws = np.round(np.concatenate(parts), 12)
    return PairedDifference(
        rows=rows,
        differing=int(counts[(values[:, :size] != values[:, size:]).any(axis=1)].sum()),
        champion=float(metric(total[:size])),
        challenger=float(metric(total[size:])),
        draws=draws,
        acceleration=_acceleration(difference(total - values), counts) if rows > 1 else 0.0,
    )


def _draw_kinds(
    generator: np.random.Generator, kind_of: IntArray, counts: IntArray, draws: int
) -> FloatArray:
    """Draw how often each kind of row comes; the work grows with the kinds."""
    weights: IntArray = generator.multinomial(len(kind_of), counts / len(kind_of), size=draws)
    return weights.astype("float64")


def _draw_rows(
    generator: np.random.Generator, kind_of: IntArray, counts: IntArray, draws: int
) -> FloatArray:
    """Draw rows and count their kinds: the same distribution; the work grows with the rows."""
    import numpy as np

    rows, kinds = len(kind_of), len(counts)
    drawn = kind_of[generator.integers(rows, size=(draws, rows), dtype=np.int32)]
    drawn += (np.arange(draws) * kinds)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=draws * kinds).reshape(draws, kinds)
    return weights.astype("float64")


def _acceleration(without: FloatArray, counts: IntArray) -> float:
    """Give the skewness of the jackknife. Shape: without (kinds,), each counted `counts` times."""
    import numpy as np

    rows = counts.sum()
    spread = (counts @ without) / rows - without
    second = float(counts @ spread**2)
    if second <= 0.0:
        return 0.0
    return float((counts @ spread**3) / (6.0 * np.power(second, 1.5)))
