"""What a model says of records that it has to learn, each judged by a head that has not seen it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from contlearn.interfaces import Task
from contlearn.training.statistics import FeatureStatistics
from contlearn.types import LabelledRecord, LabelSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["cross_validated", "crossed_probabilities", "with_neighbours"]

FOLDS: Final = 5
# So many are judged at most, the newest: each costs a pass through the encoder, and the features of
# all are in memory at once.
MOST_RECORDS: Final = 5_000
MOST_WORDS: Final = 20_000
# Numbers that stand for a word's neighbour, a third of its own at most.
NEIGHBOUR: Final = 128


def crossed_probabilities(features: Floats, targets: Ints, folds: Ints, *, labels: int) -> Floats:
    """Give the probabilities of each row by a linear head of the rows of all other folds.

    The head is the linear discriminant of the feature statistics, from which the rows of a fold
    are taken out exactly: one pass over the rows, and one small system of equations a fold.

    Args:
        features: One row each.
        targets: The label of each row, by position.
        folds: The fold of each row.
        labels: How many there are.
    Returns:
        Calibrated probabilities. A row whose label no other fold has says nothing: it is NaN.
    Shape: features (n, D), targets and folds (n,), the answer (n, C).
    Source: Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions", 1974.
    """
    from contlearn.statistics.calibration import fit_temperature
    from contlearn.statistics.scores import softmax

    whole = FeatureStatistics.empty(features.shape[1])
    whole.add(features, targets.tolist(), labels=labels)
    scores = np.full((len(targets), labels), np.nan)
    for fold in np.unique(folds).tolist():
        own = folds == fold
        rest = whole.copy()
        rest.remove(features[own], targets[own].tolist())
        if (rest.counts > 0.5).sum() < 2:
            continue
        judged = own & (rest.counts[targets] > 0.5)
        scores[judged] = rest.head().scores(features[judged])
    known = ~np.isnan(scores).any(axis=1)
    temperature = fit_temperature(scores[known], targets[known])
    scores[known] = softmax(scores[known], temperature)
    return scores


def cross_validated(
    records: Sequence[LabelledRecord], *, task: Task, checkpoint: Path, max_tokens: int
) -> tuple[LabelSpace, list[tuple[LabelledRecord, Floats]]]:
    """Judge records by a model's encoder and heads that have not seen them.

    The encoder may have learnt the records; it is the head that would repeat a wrong label.

    Args:
        records: The newest of them are judged, as many as fit.
        task: What they are for.
        checkpoint: The folder of the model.
        max_tokens: Longer inputs are cut.
    Returns:
        The labels of the records, and each record with the probabilities of its text, (C,), or of
        its words, (words, C).
    """
    import torch

    from contlearn.modeling.checkpoint import load_checkpoint
    from contlearn.training.encoded import encode_records
    from contlearn.training.scoring import features_of

    start = load_checkpoint(checkpoint)
    start.model.to("cuda" if torch.cuda.is_available() else "cpu")
    space = task.outputs(LabelSpace(), [record.target for record in records])
    records = _newest(records, task)
    data = encode_records(records, start, task=task, space=space, max_tokens=max_tokens)
    if not len(data) or len(space) < 2:
        return space, []
    owners = np.repeat(data.owners.numpy(), np.diff(data.offsets.numpy()))
    folds = np.array([_fold(record) for record in records], dtype=np.int64)[owners]
    features = features_of(start.model, data)
    if not data.is_flat:
        features = with_neighbours(features, owners)
    found = crossed_probabilities(features, data.flat.numpy(), folds, labels=len(space))
    ends = np.searchsorted(owners, np.arange(len(records) + 1))
    judged = []
    for place, record in enumerate(records):
        rows = found[ends[place] : ends[place + 1]]
        if len(rows):
            judged.append((record, rows.mean(axis=0) if data.is_flat else rows))
    return space, judged


def with_neighbours(features: Floats, owners: Ints) -> Floats:
    """Put to each word what stands before and behind it, by a random projection to fewer numbers.

    Shape: features (n, D), owners (n,), the sentence of each; the answer is wider.
    Source: Johnson and Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space",
    1984.
    """
    generator = np.random.default_rng(0)
    width = features.shape[1]
    size = (width, min(NEIGHBOUR, width // 3))
    projected = features @ (generator.normal(size=size) / np.sqrt(width))
    same = (owners[1:] == owners[:-1])[:, None]
    before, behind = np.zeros_like(projected), np.zeros_like(projected)
    before[1:] = projected[:-1] * same
    behind[:-1] = projected[1:] * same
    return np.concatenate([features, before, behind], axis=1)


def _newest(records: Sequence[LabelledRecord], task: Task) -> Sequence[LabelledRecord]:
    records = records[-MOST_RECORDS:]
    words = 0
    for place in range(len(records) - 1, -1, -1):
        words += len(task.units(records[place].target))
        if words > MOST_WORDS:
            return records[place + 1 :]
    return records


def _fold(record: LabelledRecord) -> int:
    """Choose the fold by the group, so that one customer or document stands in one."""
    digest = hashlib.sha256(record.group_key.encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "big") % FOLDS
