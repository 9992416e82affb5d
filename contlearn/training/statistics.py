"""What a frozen encoder has seen, in O(D² + C·D) numbers: enough for a linear head, no texts.

Linear discriminant analysis needs only the Gram matrix of the features, the sum of the features
of each class and the counts. They add up, so a head computed from them is the head that all records
together would give: nothing is forgotten, whatever the order. Records can be taken out again
exactly, and when the encoder changes, the statistics are carried over by what the change did to
the records at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from contlearn.errors import RegistryError
from contlearn.types import LabelSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["FeatureStatistics", "HeadKind", "LinearHead"]

HeadKind: TypeAlias = Literal["lda", "nearest-mean", "cosine"]

# How many records the prior of the covariance is worth, for each dimension.
_PRIOR_RECORDS: Final = 4
# Below this share of the features' mean square, the spread within labels is no more than rounding.
_LEAST_SPREAD: Final = 1e-6
# How strongly the map between two encoders is drawn to the identity, in units of the variance.
_MAP_RIDGE: Final = 3.0


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Scores are features @ weight.T + bias. Shape: weight (C, D), bias (C,)."""

    weight: Floats
    bias: Floats

    def scores(self, features: Floats) -> Floats:
        """Score features. Shape: (n, D) to (n, C)."""
        result: Floats = features @ self.weight.T + self.bias
        return result

    def scaled(self, temperature: float) -> LinearHead:
        """Divide the scores by a temperature; the order of labels stays."""
        return LinearHead(self.weight / temperature, self.bias / temperature)

    def mixed(self, other: LinearHead, share: float) -> LinearHead:
        """Give the head that scores with a share of another and the rest of this one."""
        return LinearHead(
            (1 - share) * self.weight + share * other.weight,
            (1 - share) * self.bias + share * other.bias,
        )


@dataclass(slots=True)
class FeatureStatistics:
    """Streaming sums over features, in float64.

    Args:
        gram: Sum of the outer products of all features.
        sums: Sum of the features of each label, in the order of a label space.
        counts: How many records (with weights) each label has.
    Shape: gram (D, D), sums (C, D), counts (C,).
    Source: Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant
    Analysis", 2020; here with the exact covariance within classes and a prior for it.
    Example:
        >>> statistics = FeatureStatistics.empty(1)
        >>> statistics.add(np.array([[0.0], [2.0], [9.0], [11.0]]), [0, 0, 1, 1], labels=2)
        >>> head = statistics.head()
        >>> (head.scores(np.array([[1.5], [8.0]])).argmax(axis=1)).tolist()
        [0, 1]
    """

    gram: Floats
    sums: Floats
    counts: Floats = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def empty(cls, width: int) -> FeatureStatistics:
        """Begin with nothing seen."""
        return cls(np.zeros((width, width)), np.zeros((0, width)), np.zeros(0))

    @property
    def width(self) -> int:
        """The size of a feature vector."""
        return int(self.gram.shape[0])

    @property
    def total(self) -> float:
        """How many records were added."""
        return float(self.counts.sum())

    def copy(self) -> FeatureStatistics:
        """Give statistics that can be changed alone."""
        return FeatureStatistics(self.gram.copy(), self.sums.copy(), self.counts.copy())

    def grow(self, labels: int) -> None:
        """Make room for labels that came later."""
        missing = labels - len(self.counts)
        if missing > 0:
            self.sums = np.concatenate([self.sums, np.zeros((missing, self.width))])
            self.counts = np.concatenate([self.counts, np.zeros(missing)])

    def add(
        self, features: Floats, targets: Sequence[int], *, labels: int, sign: float = 1.0
    ) -> None:
        """Add records. Shape: features (n, D); targets are positions below `labels`."""
        self.grow(labels)
        features = np.asarray(features, dtype=np.float64)
        self.gram += sign * (features.T @ features)
        np.add.at(self.sums, np.asarray(targets, dtype=np.int64), sign * features)
        np.add.at(self.counts, np.asarray(targets, dtype=np.int64), sign)

    def remove(self, features: Floats, targets: Sequence[int]) -> None:
        """Take records out that were added before, exactly."""
        self.add(features, targets, labels=len(self.counts), sign=-1.0)

    def covariance(self) -> Floats:
        """Give the covariance within classes. Shape: (D, D)."""
        known = self.counts > 0.5
        counts, sums = self.counts[known], self.sums[known]
        between = (sums / counts[:, None]).T @ sums
        within: Floats = (self.gram - between) / max(self.total - len(counts), 1.0)
        return (within + within.T) / 2

    def head(self, *, prior: float = 0.0, kind: HeadKind = "lda") -> LinearHead:
        """Compute a head; labels without records get a score out of reach.

        Args:
            prior: How much of the logarithm of the labels' shares enters the bias.
            kind: "lda" for the linear discriminant, "nearest-mean" for the smallest distance to a
                label's mean, "cosine" for the smallest angle to it. The last two need no
                covariance, so a few records a label are enough.
        An encoder that was trained on the records shows them closer to their means than it will
        show others, so the covariance is held back by more than its sampling error asks for: by
        an inverse Wishart prior around a multiple of the identity that weighs as much as four
        records for each dimension.

        Source: Murphy, "Machine Learning: A Probabilistic Perspective", 2012, section 4.6.2, for
        the prior; its weight was measured on CLINC150 and the five sets.
        """
        known = self.counts > 0.5
        counts = self.counts[known]
        means: Floats = np.asarray(self.sums[known] / counts[:, None], dtype=np.float64)
        size = self.width
        directions: Floats
        if kind != "lda":
            directions = means
            if kind == "cosine":
                norms = np.linalg.norm(means, axis=1, keepdims=True)
                directions = np.asarray(means / np.maximum(norms, 1e-12), dtype=np.float64)
            return self._assembled(known, directions, means, prior, flat=kind == "cosine")
        within = self.covariance()
        weight = _PRIOR_RECORDS * size
        share = weight / (weight + max(self.total - len(counts), 1.0))
        scale = float(np.trace(within)) / size
        square = float(np.trace(self.gram)) / max(self.total, 1.0) / size
        if scale < _LEAST_SPREAD * square:
            # One record a label, or copies of one: there is no spread to measure.
            scale = square
        scale = max(scale, 1e-12)
        shrunk = (1 - share) * within + share * scale * np.eye(size)
        solved: Any = np.linalg.solve(shrunk, means.T)
        directions = solved.T
        return self._assembled(known, directions, means, prior)

    def _assembled(
        self, known: Any, directions: Floats, means: Floats, prior: float, *, flat: bool = False
    ) -> LinearHead:
        """Put rows and biases where their labels are."""
        counts = self.counts[known]
        weight = np.zeros((len(known), self.width))
        weight[known] = directions
        bias = np.zeros(len(known))
        if not flat:
            bias[known] = -0.5 * (directions * means).sum(axis=1)
        if prior and counts.sum() > 0:
            bias[known] += prior * np.log(counts / counts.sum())
        if not known.all():
            # Below every known label wherever features have been seen.
            reach = float(np.abs(bias[known]).max(initial=1.0))
            lengths = np.linalg.norm(means, axis=1).max(initial=1.0)
            reach = max(reach, float(lengths)) if flat else reach
            bias[~known] = bias[known].min(initial=0.0) - 2 * reach
        return LinearHead(weight, bias)

    def carried(self, parts: Sequence[tuple[Floats, Floats]]) -> FeatureStatistics:
        """Estimate the statistics under a changed encoder from records seen by both.

        What the change did to the records of the last part, on average, it did to all that is
        remembered; what it did around the averages is a linear map, drawn towards the identity,
        that is fitted to all parts. What the map leaves unexplained is added to the covariance.

        Args:
            parts: Features before and after, the same records in the same order; the last part
                holds records of the kind that the statistics remember. Shape: (n, D) each.
        """
        parts = [(before, after) for before, after in parts if len(before)]
        if not parts or self.total <= 0:
            return self.copy()
        spread = np.concatenate([before - before.mean(axis=0) for before, _ in parts])
        moved = np.concatenate([after - after.mean(axis=0) for _, after in parts])
        gram = spread.T @ spread
        scale = max(float(np.trace(gram)) / self.width, 1e-12)
        ridge = _MAP_RIDGE * scale * np.eye(self.width)
        turn = np.linalg.solve(gram + ridge, spread.T @ moved + ridge)  # (D, D)
        rest = moved - spread @ turn
        before, after = parts[-1]
        shift = after.mean(axis=0) - before.mean(axis=0) @ turn  # (D,)
        cross = np.outer(self.sums.sum(axis=0) @ turn, shift)
        return FeatureStatistics(
            turn.T @ self.gram @ turn
            + cross
            + cross.T
            + self.total * (np.outer(shift, shift) + rest.T @ rest / len(rest)),
            self.sums @ turn + self.counts[:, None] * shift,
            self.counts.copy(),
        )

    def save(self, path: Path) -> None:
        """Write the sums as safetensors."""
        from safetensors.numpy import save_file

        save_file(
            {
                "gram": np.ascontiguousarray(self.gram),
                "sums": np.ascontiguousarray(self.sums),
                "counts": np.ascontiguousarray(self.counts),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path, labels: LabelSpace) -> FeatureStatistics:
        """Read what `save` wrote; labels that came later are empty.

        Raises:
            RegistryError: When the file is damaged or knows more labels than there are.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays: dict[str, Any] = load_file(path)
            found = cls(arrays["gram"], arrays["sums"], arrays["counts"])
        except (OSError, KeyError, SafetensorError) as error:
            raise RegistryError(
                f"The feature statistics cannot be read: {error}",
                where=str(path),
                hint="`contlearn verify` says which files are damaged; roll back.",
            ) from error
        if len(found.counts) > len(labels):
            raise RegistryError(
                f"The feature statistics know {len(found.counts)} labels, the model {len(labels)}.",
                where=str(path),
                hint="`contlearn verify` says which files are damaged; roll back.",
            )
        found.grow(len(labels))
        return found
