"""Detectors of a change of the answers: their labels, their confidence, and both together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from contlearn.monitoring.detectors import (
    Finding,
    Nulls,
    NumberShift,
    Sample,
    ShareShift,
    chi_square,
    shares,
)

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = [
    "ConditionalConfidence",
    "Confidence",
    "Energy",
    "LabelChiSquare",
    "LabelDivergence",
    "LabelLift",
    "LabelPsi",
]


def _psi(first: FloatArray, second: FloatArray) -> FloatArray:
    p, q = shares(first), shares(second)
    result: FloatArray = ((q - p) * np.log(q / p)).sum(axis=1)
    return result


def _jensen_shannon(first: FloatArray, second: FloatArray) -> FloatArray:
    p, q = shares(first), shares(second)
    middle = (p + q) / 2
    result: FloatArray = (
        (p * np.log2(p / middle)).sum(axis=1) + (q * np.log2(q / middle)).sum(axis=1)
    ) / 2
    return result


# How much the risen labels rose, and how large a part of all they are.
_LIFTS: Final = ((1.5, 0.4), (2.0, 0.2), (3.0, 0.1))


def _lift(first: FloatArray, second: FloatArray) -> FloatArray:
    total, other = first.sum(axis=1, keepdims=True), second.sum(axis=1, keepdims=True)
    both, share = first + second, other / (total + other)
    found = []
    for factor, part in _LIFTS:
        sides = []
        for times, weight in ((factor, part), ((1 - factor * part) / (1 - part), 1 - part)):
            moved = times * share / (times * share + 1 - share)
            sides.append(
                math.log(weight)
                + second * np.log(moved / share)
                + (both - second) * np.log((1 - moved) / (1 - share))
            )
        found.append(np.logaddexp(*sides).sum(axis=1))
    result: FloatArray = (np.logaddexp.reduce(found) - math.log(len(_LIFTS))) / other[:, 0]
    return result


class _LabelShift(ShareShift):
    """Compares predicted labels."""

    target: ClassVar[str] = "prediction"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    words: ClassVar[str] = "predicted labels"


class LabelPsi(_LabelShift):
    """Population stability index of predicted labels.

    Source: Siddiqi, "Credit Risk Scorecards", 2006; half a record is added to each label.
    """

    name: ClassVar[str] = "psi"
    summary: ClassVar[str] = "population stability index of predicted labels"
    strong: ClassVar[float] = 0.25

    def distance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Measure rows of counts."""
        return _psi(first, second)


class LabelChiSquare(_LabelShift):
    """Pearson's chi-square of predicted labels: gives weight to labels that are rare."""

    name: ClassVar[str] = "chi-square"
    summary: ClassVar[str] = "chi-square test of predicted labels"
    strong: ClassVar[float] = 0.25

    def distance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Measure rows of counts."""
        return chi_square(first, second)


class LabelDivergence(_LabelShift):
    """Jensen-Shannon divergence of predicted labels, in bits: bounded by 1, calm about rare ones.

    Source: Lin, "Divergence Measures Based on the Shannon Entropy", 1991.
    """

    name: ClassVar[str] = "jensen-shannon"
    summary: ClassVar[str] = "Jensen-Shannon divergence of predicted labels"
    strong: ClassVar[float] = 0.05

    def distance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Measure rows of counts."""
        return _jensen_shannon(first, second)


class LabelLift(_LabelShift):
    """Have some labels become more common together, each by less than its own count could show?

    With hundreds of labels a window holds few answers of each. The statistic is the likelihood, per
    answer of the window, that a part of the labels rose by a common factor and all others fell,
    whichever they are, against none having moved; three factors are averaged.
    Source: likelihood of a two-point mixture, as in Donoho and Jin, "Higher Criticism for Detecting
        Sparse Heterogeneous Mixtures", 2004; its null is that of `ShareShift`.
    """

    name: ClassVar[str] = "label-lift"
    summary: ClassVar[str] = "likelihood that a part of the labels rose together"
    strong: ClassVar[float] = 0.1

    def distance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Measure rows of counts."""
        return _lift(first, second)


class Confidence(NumberShift):
    """Confidence of the answers: the calibrated probability of the label that was given."""

    name: ClassVar[str] = "ks-confidence"
    summary: ClassVar[str] = "Kolmogorov-Smirnov test of confidences"
    target: ClassVar[str] = "prediction"
    needs: ClassVar[tuple[str, ...]] = ("confidence",)
    words: ClassVar[str] = "confidence of the answers"


class Energy(NumberShift):
    """Energy of the answers: the logarithm of the sum of exponentials of all scores.

    It falls for texts unlike all labels even where the confidence does not.
    Source: Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020 (sign turned).
    """

    name: ClassVar[str] = "ks-energy"
    summary: ClassVar[str] = "Kolmogorov-Smirnov test of energies"
    target: ClassVar[str] = "prediction"
    needs: ClassVar[tuple[str, ...]] = ("energy",)
    words: ClassVar[str] = "evidence for any label at all (energy)"


class ConditionalConfidence:
    """Are answers of one and the same label given with another confidence than before?

    Ranks are taken within each label, so that a change of the labels' shares alone says nothing:
    what it sees is a change of the texts behind a label.
    Source: van Elteren, "On the combination of independent two-sample tests of Wilcoxon", 1960.
    """

    name: ClassVar[str] = "conditional-confidence"
    summary: ClassVar[str] = "van Elteren's test of confidences within each label"
    target: ClassVar[str] = "prediction"
    needs: ClassVar[tuple[str, ...]] = ("confidence", "labels")

    def __init__(self, reference: Sample, *, nulls: Nulls, seed: int = 17) -> None:
        del nulls, seed
        self._groups = _groups(reference)

    def judge(self, window: Sample) -> Finding:
        """Compare a window."""
        above = expected = variance = pairs = wins = 0.0
        for label, now in _groups(window).items():
            before = self._groups.get(label)
            if before is None:
                continue
            n, m = len(before), len(now)
            both = np.concatenate([before, now])
            values, places, ties = np.unique(both, return_inverse=True, return_counts=True)
            del values
            ranks = (np.cumsum(ties) - (ties - 1) / 2)[places]  # middle ranks
            total = n + m
            weight = 1.0 / (total + 1)
            rank_sum = float(ranks[n:].sum())
            above += weight * rank_sum
            expected += weight * m * (total + 1) / 2
            correction = float((ties**3 - ties).sum()) / (total * (total - 1))
            variance += weight**2 * n * m * (total + 1 - correction) / 12
            wins += rank_sum - m * (m + 1) / 2
            pairs += n * m
        score = (above - expected) / math.sqrt(variance) if variance > 0 else 0.0
        area = wins / pairs if pairs else 0.5
        return Finding(
            detector=self.name,
            target=self.target,
            statistic=area,
            p_value=math.erfc(abs(score) / math.sqrt(2)),
            effect=abs(area - 0.5) / 0.15,
        )

    def explain(self, window: Sample, finding: Finding) -> str:
        """Name the labels whose confidence fell or rose most."""
        moved = []
        for label, now in _groups(window).items():
            before = self._groups.get(label)
            if before is not None and min(len(before), len(now)) >= 5:
                change = float(now.mean() - before.mean())
                moved.append((abs(change) * math.sqrt(len(now)), label, before.mean(), now.mean()))
        moved.sort(reverse=True)
        named = ", ".join(f"{name} {a:.0%} → {b:.0%}" for _, name, a, b in moved[:3])
        way = "less" if finding.statistic < 0.5 else "more"
        tail = f": mean confidence {named}" if named else ""
        return f"Answers of the same label are {way} certain than before{tail}."


def _groups(sample: Sample) -> dict[str, FloatArray]:
    """Split the confidences by label."""
    values = np.asarray(sample.numbers["confidence"])
    labels = np.asarray(sample.labels)
    finite = np.isfinite(values)
    values, labels = values[finite], labels[finite]
    if not len(values):
        return {}
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return {
        str(name): part
        for name, part in zip(names, np.split(values[order], starts[1:]), strict=True)
    }
