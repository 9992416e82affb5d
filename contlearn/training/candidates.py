"""Heads from feature statistics, and the choice between a frozen and a fine-tuned encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from contlearn.modeling.text_model import TextModel
from contlearn.statistics.calibration import fit_temperature
from contlearn.training.encoded import Part
from contlearn.training.scoring import features_of, right_share
from contlearn.training.session import FitSession
from contlearn.training.state import encoder_hash
from contlearn.training.statistics import FeatureStatistics, HeadKind, LinearHead
from contlearn.training.sums import statistics_that_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "Candidate",
    "FeatureView",
    "as_notes",
    "choose",
    "head_of",
    "set_head",
    "statistics_without_exemplars",
    "trained_head",
]


# However long the history is: what comes next looks most like what came last.
_LEAST_OF_NEW: Final = 0.2


@dataclass(slots=True)
class FeatureView:
    """The features of the records at hand under one encoder, part by part.

    Shape: features[i] (rows of part i, D).
    """

    parts: tuple[Part, ...]
    features: tuple[Floats, ...]

    @classmethod
    def of(cls, session: FitSession) -> FeatureView:
        """Compute the features under the session's model as it is."""
        parts = session.parts()
        found = tuple(features_of(session.model, part.data) for part in parts)
        return cls(parts, found)

    def rows(self, which: str) -> tuple[Floats, NDArray[np.int64]]:
        """Give features and targets of the "train", "validation" or "all" records of all parts."""
        targets = [part.data.flat.numpy()[_rows_of(part, which)] for part in self.parts]
        return np.concatenate(self.by_part(which)), np.concatenate(targets)

    def by_part(self, which: str) -> list[Floats]:
        """Give the features of the "train", "validation" or "all" records, part by part."""
        return [
            found[_rows_of(part, which)]
            for part, found in zip(self.parts, self.features, strict=True)
        ]

    def exemplars(self) -> tuple[Floats, NDArray[np.int64]]:
        """Give features and targets of the records in the replay buffer."""
        if len(self.parts) < 2:
            return np.zeros((0, self.features[0].shape[1])), np.zeros(0, dtype=np.int64)
        return self.features[1], self.parts[1].data.flat.numpy()

    def added_to(self, statistics: FeatureStatistics, which: str) -> FeatureStatistics:
        """Give statistics with the "train", "validation" or "all" rows added."""
        features, targets = self.rows(which)
        found = statistics.copy()
        found.add(features, targets.tolist(), labels=len(statistics.counts))
        return found

    def weights(self, experiences: int) -> Floats:
        """Weigh the validation rows: each experience counts the same, the new one a fifth at least.

        Args:
            experiences: How many there are, the new one included.
        """
        sizes = [len(_rows_of(part, "validation")) for part in self.parts]
        new = max(1.0 / experiences, _LEAST_OF_NEW)
        shares = (new, 1.0 - new) if len(sizes) > 1 and all(sizes) else (1.0,) * len(sizes)
        return np.concatenate(
            [
                np.full(size, share / size) if size else np.zeros(0)
                for size, share in zip(sizes, shares, strict=True)
            ]
        )


def _rows_of(part: Part, which: str) -> NDArray[np.int64]:
    owners = part.data.owners.numpy()
    if which == "all":
        return np.arange(len(owners))
    chosen = np.zeros(len(part.data.records), dtype=bool)
    chosen[part.train if which == "train" else part.validation] = True
    return np.flatnonzero(chosen[owners])


@dataclass(slots=True)
class Candidate:
    """One way the challenger could be.

    Args:
        name: For the report.
        is_tuned: Whether its encoder differs from the champion's.
        view: Features of the records at hand under its encoder.
        statistics: Of all records, under its encoder, without those set aside.
        shares: The probability of the right label on each validation row.
        temperature: What the scores of the computed head are divided by.
        trained: A head that was trained, calibrated; None for none.
        share: How much of the trained head enters; the rest is computed from the statistics.
        kind: How the head is computed, as in `FeatureStatistics.head`.
        encoder: The weights of an encoder between the champion's and the tuned one.
    """

    name: str
    is_tuned: bool
    view: FeatureView
    statistics: FeatureStatistics
    shares: Floats
    temperature: float
    trained: LinearHead | None = None
    share: float = 0.0
    kind: HeadKind = "lda"
    encoder: Any = None

    def head(self, statistics: FeatureStatistics, *, prior: float) -> LinearHead:
        """Give the candidate's head as it is with these statistics."""
        computed = statistics.head(prior=prior, kind=self.kind).scaled(self.temperature)
        return computed if self.trained is None else computed.mixed(self.trained, self.share)


def head_of(
    statistics: FeatureStatistics,
    view: FeatureView,
    *,
    prior: float,
    centre: float | None = None,
    kind: HeadKind = "lda",
) -> tuple[Floats, float]:
    """Calibrate the head that statistics give.

    Args:
        statistics: Without the records set aside.
        view: Features under the same encoder.
        prior: As in `FeatureStatistics.head`.
        centre: The temperature to lean towards when the records set aside are few. Without one,
            the encoder has not been trained on the records at hand, so all of them are used, each
            scored by a head that has not seen it.
        kind: As in `FeatureStatistics.head`.
    Returns:
        The probability of the right label on each validation row, and the temperature.
    """
    head = statistics.head(prior=prior, kind=kind)
    features, targets = view.rows("validation")
    scores = head.scores(features) if len(features) else np.zeros((0, len(statistics.counts)))
    if centre is None:
        temperature = fit_temperature(*_cross_scores(statistics, view, prior=prior, kind=kind))
    else:
        temperature = fit_temperature(scores, targets, centre=centre)
    return right_share(scores, targets, temperature=temperature), temperature


def _cross_scores(
    statistics: FeatureStatistics,
    view: FeatureView,
    *,
    prior: float,
    folds: int = 5,
    kind: HeadKind = "lda",
) -> tuple[Floats, NDArray[np.int64]]:
    """Score each record at hand by the head of the statistics without its fold."""
    features, targets = view.rows("train")
    unseen, unseen_targets = view.rows("validation")
    scores, kept = [statistics.head(prior=prior, kind=kind).scores(unseen)], [unseen_targets]
    for fold in range(folds):
        chosen = np.arange(len(features)) % folds == fold
        without = statistics.copy()
        without.remove(features[chosen], targets[chosen].tolist())
        # A label whose only records are in the fold is unknown to this head.
        chosen &= without.counts[targets] > 0.5
        if chosen.any():
            scores.append(without.head(prior=prior, kind=kind).scores(features[chosen]))
            kept.append(targets[chosen])
    return np.concatenate(scores), np.concatenate(kept)


def choose(candidates: list[Candidate], weights: Floats, *, evidence: float) -> Candidate:
    """Take the best on the validation rows; a later one only if it is better beyond doubt.

    Args:
        candidates: The first is the one that ties go to.
        weights: Of the validation rows.
        evidence: By how many standard errors of the paired difference a later one must lead.
    """
    best = candidates[0]
    for candidate in candidates[1:]:
        difference = candidate.shares - best.shares
        mean = float((weights * difference).sum())
        spread = float(np.sqrt((weights**2 * (difference - mean) ** 2).sum()))
        if mean > evidence * spread and mean > 0:
            best = candidate
    return best


def statistics_without_exemplars(
    session: FitSession, view: FeatureView
) -> tuple[FeatureStatistics, str]:
    """Give the statistics of what was learnt before, counts, and is not at hand.

    A champion that kept none, or kept them under another encoder, leaves nothing but exemplars.

    Returns:
        The statistics, and how what counts no longer was taken out, as `statistics_that_count`.
    """
    kept = session.state.statistics
    if kept is None or session.state.encoder_sha256 != encoder_hash(session.model.encoder):
        found = FeatureStatistics.empty(session.model.width)
        found.grow(len(session.space))
        return found, ""
    found, how = statistics_that_count(session, kept)
    features, targets = view.exemplars()
    found.remove(features, targets.tolist())
    return found, how


def set_head(model: TextModel, head: LinearHead) -> None:
    """Put a computed head into a model."""
    like = model.head.weight
    model.head.set_rows(
        torch.as_tensor(head.weight, dtype=like.dtype, device=like.device),
        torch.as_tensor(head.bias, dtype=like.dtype, device=like.device),
    )


def trained_head(model: TextModel) -> LinearHead:
    """Take the head of a model as it is."""
    return LinearHead(
        model.head.weight.detach().double().cpu().numpy(),
        model.head.bias.detach().double().cpu().numpy(),
    )


def as_notes(candidates: list[Candidate], weights: Floats, chosen: Candidate) -> dict[str, Any]:
    """Describe a choice in plain values."""
    return {
        "chosen": chosen.name,
        "validation_rows": len(weights),
        "validation": {c.name: round(float((weights * c.shares).sum()), 4) for c in candidates},
    }
