"""Detectors of a change of the texts themselves."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from contlearn.monitoring.detectors import (
    RESAMPLES,
    Finding,
    Nulls,
    NumberShift,
    Sample,
    ShareShift,
    chi_square,
    compare_numbers,
    share_beyond,
)
from contlearn.tasks.words import words_of

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = [
    "ClassifierTest",
    "Fragmentation",
    "KernelTest",
    "Languages",
    "Lengths",
    "NeighbourDistance",
    "NewWords",
    "UnknownPieces",
]

_REFERENCE_ROWS: Final = 1_000
_WINDOW_ROWS: Final = 1_000


class Lengths(NumberShift):
    """Length of the texts."""

    name: ClassVar[str] = "ks-length"
    summary: ClassVar[str] = "Kolmogorov-Smirnov test of text lengths"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("characters",)
    words: ClassVar[str] = "length of the texts in characters"


class UnknownPieces(NumberShift):
    """Pieces that the tokenizer's vocabulary does not hold."""

    name: ClassVar[str] = "ks-unknown"
    summary: ClassVar[str] = "Kolmogorov-Smirnov test of the share of unknown pieces"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("unknown_ratio",)
    words: ClassVar[str] = "share of pieces the vocabulary does not hold"


class Fragmentation(NumberShift):
    """Pieces for each character: words out of the vocabulary fall into many pieces."""

    name: ClassVar[str] = "ks-fragmentation"
    summary: ClassVar[str] = "Kolmogorov-Smirnov test of pieces for each character"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("fragmentation",)
    words: ClassVar[str] = "number of pieces for each character (rare words and typos raise it)"


class Languages(ShareShift):
    """Languages and scripts, as `words.language_of` guesses them when a prediction is logged."""

    name: ClassVar[str] = "languages"
    summary: ClassVar[str] = "chi-square test of language and script shares"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("languages",)
    words: ClassVar[str] = "shares of languages and scripts"
    strong: ClassVar[float] = 0.25

    def distance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Measure rows of counts."""
        return chi_square(first, second)


class NewWords:
    """Words that half of the reference never used, where texts are logged.

    The vocabulary is that of one half of the reference, so that the other half and the window meet
    it on equal terms; the share of new words of each text is compared.
    """

    name: ClassVar[str] = "new-words"
    summary: ClassVar[str] = "Kolmogorov-Smirnov test of the share of new words"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("texts",)

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        del nulls
        order = np.random.default_rng(seed).permutation(len(reference))
        half = len(order) // 2
        self._known = {w for i in order[:half] for w in words_of(reference.texts[i])}
        self._sorted = self._rates([reference.texts[i] for i in order[half:]])

    def _rates(self, texts: list[str]) -> FloatArray:
        rates = []
        for text in texts:
            words = words_of(text)
            rates.append(sum(word not in self._known for word in words) / max(1, len(words)))
        result: FloatArray = np.sort(np.array(rates))
        return result

    def judge(self, window: Sample) -> Finding:
        """Compare a window."""
        return compare_numbers(self, self._sorted, self._rates(list(window.texts)))

    def explain(self, window: Sample, finding: Finding) -> str:
        """Give both rates and the commonest new words."""
        before, now = float(self._sorted.mean()), float(self._rates(list(window.texts)).mean())
        fresh = Counter(
            word
            for text in window.texts
            for word in set(words_of(text))
            if word not in self._known and len(word) > 2
        )
        named = ", ".join(word for word, _ in fresh.most_common(6))
        return f"New words make up {now:.0%} of a text instead of {before:.0%}: {named}."


class KernelTest:
    """Maximum mean discrepancy of projections, with a Gaussian kernel and a permutation null.

    The null splits the reference itself, once for each window size. The parts it compares are a
    little smaller than reference and window are, so that the p-value is on the careful side.
    Source: Gretton et al., "A Kernel Two-Sample Test", JMLR 2012; bandwidth by the median rule.
    """

    name: ClassVar[str] = "mmd"
    summary: ClassVar[str] = "maximum mean discrepancy of embeddings"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("projections",)

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        self._generator = np.random.default_rng(seed)
        self._rows = _some(reference.projections, _REFERENCE_ROWS, self._generator)
        distances = _squared_distances(self._rows, self._rows)
        self._width = float(np.median(distances[np.triu_indices(len(distances), 1)])) or 1.0
        self._kernel = np.exp(-distances / self._width)
        self._nulls = nulls

    def judge(self, window: Sample) -> Finding:
        """Compare a window."""
        rows = _some(window.projections, min(_WINDOW_ROWS, len(self._rows) // 2), self._generator)
        within = _mean_off_diagonal(np.exp(-_squared_distances(rows, rows) / self._width))
        between = float(np.exp(-_squared_distances(self._rows, rows) / self._width).mean())
        statistic = _mean_off_diagonal(self._kernel) + within - 2 * between
        key = f"{self.name}:{len(rows)}"
        if key not in self._nulls:
            self._nulls[key] = self._null(len(rows))
        return Finding(
            detector=self.name,
            target=self.target,
            statistic=statistic,
            p_value=share_beyond(self._nulls[key], statistic),
            effect=statistic / 0.1,
        )

    def explain(self, window: Sample, finding: Finding) -> str:
        """Say that it is the meaning, not the surface."""
        return "The meanings of the texts, as the model sees them, are distributed in another way."

    def _null(self, size: int) -> FloatArray:
        """Split the reference at random. Shape: chosen (resamples, n)."""
        count = len(self._rows)
        order = np.random.default_rng(count + size).random((RESAMPLES, count)).argsort(axis=1)
        chosen = (order < size).astype(np.float32)
        sums = chosen @ self._kernel.astype(np.float32)  # (resamples, n)
        inside = (sums * chosen).sum(axis=1)
        across = sums.sum(axis=1) - inside
        outside = float(self._kernel.sum()) - inside - 2 * across
        rest = count - size
        null: FloatArray = (
            (inside - size) / (size * (size - 1))
            + (outside - rest) / (rest * (rest - 1))
            - 2 * across / (size * rest)
        ).astype(np.float64)
        return null


class ClassifierTest:
    """Can a classifier tell the window from the reference? Better than chance is drift.

    A logistic regression is fitted on one half and judged on the other, whose Mann-Whitney
    statistic is as it should be under chance: whatever was fitted, it has not seen these rows.
    Joining both ways round would see a little more, but the two are not independent: measured,
    that alarms in 2.9 windows of a hundred where 1 is meant.
    Source: Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017.
    """

    name: ClassVar[str] = "classifier"
    summary: ClassVar[str] = "classifier two-sample test on embeddings"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("projections",)

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        del nulls
        self._generator = np.random.default_rng(seed)
        self._rows = _some(reference.projections, _REFERENCE_ROWS, self._generator)
        self._mean = self._rows.mean(axis=0)
        self._spread = self._rows.std(axis=0) + 1e-9

    def judge(self, window: Sample) -> Finding:
        """Compare a window."""
        rows = _some(window.projections, _WINDOW_ROWS, self._generator)
        features = self._features(np.concatenate([self._rows, rows]))
        target = np.repeat([0.0, 1.0], [len(self._rows), len(rows)])
        half = np.zeros(len(target), dtype=bool)
        for value in (0.0, 1.0):
            places = np.flatnonzero(target == value)
            half[self._generator.permutation(places)[: len(places) // 2]] = True
        weights = _fit(features[half], target[half])
        area, score = _mann_whitney(features[~half] @ weights, target[~half])
        return Finding(
            detector=self.name,
            target=self.target,
            statistic=area,
            p_value=0.5 * math.erfc(score / math.sqrt(2)),
            effect=(area - 0.5) / 0.25,
        )

    def explain(self, window: Sample, finding: Finding) -> str:
        """Give the share of pairs it tells apart."""
        return (
            "The texts themselves differ: a classifier tells new from old ones in "
            f"{finding.statistic:.0%} of pairs (50% is chance)."
        )

    def newness(self, window: Sample) -> FloatArray:
        """Score each row of a window: the larger, the less like the reference. Shape: (n,)."""
        rows = np.asarray(window.projections, dtype=np.float64)
        features = self._features(np.concatenate([self._rows, rows]))
        target = np.repeat([0.0, 1.0], [len(self._rows), len(rows)])
        scores: FloatArray = features[len(self._rows) :] @ _fit(features, target)
        return scores

    def _features(self, rows: FloatArray) -> FloatArray:
        """Standardise; squares see a change of spread that leaves the mean where it was."""
        scaled = (rows - self._mean) / self._spread
        result: FloatArray = np.concatenate(
            [scaled, scaled**2 - 1, np.ones((len(scaled), 1))], axis=1
        )
        return result


class NeighbourDistance:
    """How far a text is from its nearest neighbours of the reference: new topics are far from all.

    The neighbours are those of one half of the reference, so that the other half and the window
    meet it on equal terms. It sees what is spread thinly and far outside, which moves no mean.
    Source: distance to the k-th neighbour, Sun et al., "Out-of-Distribution Detection with Deep
        Nearest Neighbors", ICML 2022.
    """

    name: ClassVar[str] = "neighbour-distance"
    summary: ClassVar[str] = "Kolmogorov-Smirnov test of distances to the nearest known texts"
    target: ClassVar[str] = "input"
    needs: ClassVar[tuple[str, ...]] = ("projections",)
    neighbours: ClassVar[int] = 3

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        del nulls
        generator = np.random.default_rng(seed)
        rows = np.asarray(reference.projections, dtype=np.float64)
        order = generator.permutation(len(rows))[: 2 * _REFERENCE_ROWS]
        half = len(order) // 2
        self._fitted = rows[order[:half]]
        self._sorted = np.sort(self.distances(rows[order[half:]]))

    def distances(self, rows: FloatArray) -> FloatArray:
        """Give the distance of each row to its k-th neighbour. Shape: (n, 32) to (n,)."""
        squares = _squared_distances(np.asarray(rows, dtype=np.float64), self._fitted)
        result: FloatArray = np.sqrt(
            np.partition(squares, self.neighbours - 1, axis=1)[:, self.neighbours - 1]
        )
        return result

    def judge(self, window: Sample) -> Finding:
        """Compare a window."""
        return compare_numbers(self, self._sorted, np.sort(self.distances(window.projections)))

    def explain(self, window: Sample, finding: Finding) -> str:
        """Give the share of texts farther away than nineteen of twenty were."""
        limit = float(np.quantile(self._sorted, 0.95))
        share = float((self.distances(window.projections) > limit).mean())
        return f"{share:.0%} of the texts are farther from all known ones than 5% were."


def _some(rows: FloatArray, most: int, generator: np.random.Generator) -> FloatArray:
    rows = np.asarray(rows, dtype=np.float64)
    if len(rows) <= most:
        return rows
    chosen: FloatArray = rows[generator.choice(len(rows), most, replace=False)]
    return chosen


def _squared_distances(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    distances: NDArray[np.float64] = np.maximum(squares, 0.0)
    return distances


def _mean_off_diagonal(kernel: FloatArray) -> float:
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


def _fit(features: FloatArray, target: FloatArray) -> NDArray[np.float64]:
    """Fit a logistic regression with a ridge, classes weighted alike, by Newton's method."""
    weight = np.where(target == 1, 0.5 / target.mean(), 0.5 / (1 - target.mean()))
    ridge = 10.0 * np.eye(features.shape[1])
    weights = np.zeros(features.shape[1])
    for _ in range(4):
        chance = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        gradient = features.T @ (weight * (chance - target)) + ridge @ weights
        curvature = (features * (weight * chance * (1 - chance))[:, None]).T @ features + ridge
        weights = weights - np.linalg.solve(curvature, gradient)
    return weights


def _mann_whitney(scores: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Give the area under the curve, and its distance from one half in standard errors."""
    order = scores.argsort(kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    ones = int(target.sum())
    zeros = len(target) - ones
    above = ranks[target == 1].sum() - ones * (ones + 1) / 2
    error = math.sqrt(ones * zeros * (ones + zeros + 1) / 12)
    return float(above / (ones * zeros)), float((above - ones * zeros / 2) / error)
