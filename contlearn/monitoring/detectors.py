"""What a drift detector is, and the two tests of numbers and shares that most are made of.

A detector takes its reference once and precomputes what chance alone reaches, so that looking at a
window costs milliseconds. The p-values are corrected over all detectors by `drift_check`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import numpy as np

from contlearn.monitoring.sample import Sample

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = [
    "RESAMPLES",
    "Detector",
    "Finding",
    "Nulls",
    "NumberShift",
    "Sample",
    "ShareShift",
    "share_beyond",
]

RESAMPLES: Final = 2_000
# Of the exact test of what is doubtful: p-values that are combined must be able to be small.
_EXCHANGES: Final = 10_000
# A p-value from the precomputed null that is worth the exact test.
_DOUBTFUL: Final = 0.1
# What chance reaches, by detector and window size: kept with the reference, computed once.
Nulls = MutableMapping[str, "FloatArray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one detector found in one window.

    `effect` says how large the change is whatever the window's size: 1 and more is strong.
    """

    detector: str
    target: str
    statistic: float
    p_value: float
    effect: float = 0.0


class Detector(Protocol):
    """Takes a reference when it is made, then judges windows; registered by a hook.

    Example:
        >>> class Shouting:
        ...     name = "shouting"
        ...     summary = "share of texts in capitals"
        ...     target = "input"
        ...     needs = ("texts",)
        ...     def __init__(self, reference, *, nulls, seed=17): ...
        ...     def judge(self, window): ...
        ...     def explain(self, window, finding): ...
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    target: ClassVar[str]  # input, prediction or label
    needs: ClassVar[tuple[str, ...]]  # columns without which it is left out

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        """Take the reference. `nulls` may hold what an earlier one precomputed."""
        ...

    def judge(self, window: Sample) -> Finding:
        """Say how far the window is from the reference, and how often chance does that."""
        ...

    def explain(self, window: Sample, finding: Finding) -> str:
        """Say in a sentence what moved."""
        ...


class NumberShift:
    """Compares the distribution of one number by the Kolmogorov-Smirnov test.

    Ties only make it more careful. Source: Stephens, "Use of the Kolmogorov-Smirnov ... Statistics
    without Extensive Tables", 1970, for the correction of the asymptotic distribution.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    target: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    words: ClassVar[str]

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        del nulls, seed
        self._sorted = _sorted(reference.numbers[self.needs[0]])

    def judge(self, window: Sample) -> Finding:
        """Compare a window."""
        return compare_numbers(self, self._sorted, _sorted(window.numbers[self.needs[0]]))

    def explain(self, window: Sample, finding: Finding) -> str:
        """Give both medians."""
        other = _sorted(window.numbers[self.needs[0]])
        before, now = float(np.median(self._sorted)), float(np.median(other))
        tail = ""
        if f"{before:.3g}" == f"{now:.3g}":
            low = tuple(float(np.quantile(v, 0.1)) for v in (self._sorted, other))
            tail = f", lowest tenth below {low[0]:.3g} → {low[1]:.3g}"
        return f"The {self.words} moved: median {before:.3g} → {now:.3g}{tail}."


class ShareShift:
    """Compares the shares of names by a statistic with its own null, drawn from the reference.

    Reference and window are both drawn, because the reference is a sample too.
    Source: parametric bootstrap, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993;
        exchange, Good, "Permutation Tests", 2000.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    target: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    words: ClassVar[str]
    strong: ClassVar[float]

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        self._names = sorted(set(self._values(reference)))
        self._counts = self._count(self._values(reference))
        self._nulls, self._seed = nulls, seed

    def distance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Measure how far rows of counts are apart. Shape: (r, names) twice to (r,)."""
        raise NotImplementedError  # each detector of shares gives its own

    def _values(self, sample: Sample) -> Sequence[str]:
        values: Sequence[str] = getattr(sample, self.needs[0])
        return values

    def _count(self, values: Sequence[str]) -> FloatArray:
        """Count the names; what the reference did not have comes last, together."""
        counts = Counter(values)
        known = [float(counts.pop(name, 0)) for name in self._names]
        result: FloatArray = np.array([*known, float(sum(counts.values()))])
        return result

    def judge(self, window: Sample) -> Finding:
        """Compare a window."""
        counts = self._count(self._values(window))
        key = f"{self.name}:{len(window)}"
        if key not in self._nulls:
            self._nulls[key] = self._null(len(window))
        statistic = float(self.distance(self._counts[None], counts[None])[0])
        p_value = share_beyond(self._nulls[key], statistic)
        if p_value <= _DOUBTFUL:
            # The reference's shares are uncertain themselves where there are many names, and the
            # drawn null is then a little too small (measured: 2.5 % instead of 1). What it finds
            # is therefore judged again by exchanging answers between both sides, which is exact.
            p_value = share_beyond(self._exchanged(counts), statistic)
        return Finding(
            detector=self.name,
            target=self.target,
            statistic=statistic,
            p_value=p_value,
            effect=statistic / self.strong,
        )

    def _exchanged(self, counts: FloatArray) -> FloatArray:
        """Exchange answers between reference and window at random. Shape: (exchanges,)."""
        generator = np.random.default_rng(self._seed)
        both = (self._counts + counts).astype(np.int64)
        window = generator.multivariate_hypergeometric(
            both, int(counts.sum()), _EXCHANGES, method="marginals"
        )
        null: FloatArray = self.distance((both - window).astype(float), window.astype(float))
        return null

    def _null(self, size: int) -> FloatArray:
        """Draw both sides from the reference. Shape: (resamples,)."""
        generator = np.random.default_rng(self._seed)
        shares = (self._counts + 0.5) / (self._counts + 0.5).sum()
        total = int(self._counts.sum())
        null: FloatArray = self.distance(
            generator.multinomial(total, shares, RESAMPLES).astype(np.float64),
            generator.multinomial(size, shares, RESAMPLES).astype(np.float64),
        )
        return null

    def explain(self, window: Sample, finding: Finding) -> str:
        """Name what gained and lost most."""
        counts = self._count(self._values(window))
        before, now = self._counts / self._counts.sum(), counts / counts.sum()
        names = [*self._names, "(new)"]
        order = np.argsort(-np.abs(now - before), kind="stable")[:4]
        moved = ", ".join(f"{names[i]} {before[i]:.0%} → {now[i]:.0%}" for i in order)
        return f"The {self.words} moved: {moved}."


def compare_numbers(detector: Detector, first: FloatArray, second: FloatArray) -> Finding:
    """Give the finding of a detector that compares two sorted samples of one number."""
    distance, p_value = kolmogorov_smirnov(first, second)
    return Finding(
        detector=detector.name,
        target=detector.target,
        statistic=distance,
        p_value=p_value,
        effect=distance / 0.25,
    )


def kolmogorov_smirnov(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """Compare two sorted samples: the largest distance of their distributions, and its p-value."""
    if not len(first) or not len(second):
        return 0.0, 1.0
    both = np.concatenate([first, second])
    distance = float(
        np.abs(
            np.searchsorted(first, both, "right") / len(first)
            - np.searchsorted(second, both, "right") / len(second)
        ).max()
    )
    size = math.sqrt(len(first) * len(second) / (len(first) + len(second)))
    scaled = (size + 0.12 + 0.11 / size) * distance
    if scaled <= 0.2:
        return distance, 1.0
    p_value = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return distance, min(1.0, max(0.0, p_value))


def share_beyond(null: FloatArray, statistic: float) -> float:
    """Give the p-value, the observed one counted too: it can never be 0.

    Source: Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010.
    """
    return (1 + int((null >= statistic).sum())) / (len(null) + 1)


def _sorted(values: FloatArray) -> FloatArray:
    result: FloatArray = np.sort(values[np.isfinite(values)])
    return result


def shares(counts: FloatArray) -> FloatArray:
    """Turn counts into shares with half a record added to each. Shape: (r, names)."""
    smoothed = counts + 0.5
    result: FloatArray = smoothed / smoothed.sum(axis=1, keepdims=True)
    return result


def chi_square(first: FloatArray, second: FloatArray) -> FloatArray:
    """Give Pearson's statistic of two rows of counts, over the records of the second.

    Units: 0 when the shares are equal.
    """
    total, other = first.sum(axis=1, keepdims=True), second.sum(axis=1, keepdims=True)
    scale = np.sqrt(other / total)
    both = first + second
    difference = (first * scale - second / scale) ** 2
    terms = np.divide(difference, both, out=np.zeros_like(both), where=both > 0)
    result: FloatArray = terms.sum(axis=1) / other[:, 0]
    return result
