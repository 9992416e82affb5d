"""What a model says of records that it has to learn, each judged by a head that has not seen it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from contlearn.config import ModelConfig
from contlearn.interfaces import Task
from contlearn.training.statistics import FeatureStatistics
from contlearn.types import LabelledRecord, LabelSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from contlearn.modeling.checkpoint import Checkpoint

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["cross_validated", "crossed_probabilities"]

FOLDS: Final = 5
# Texts or words at most, the newest: their features are in memory at once.
MOST_ROWS: Final = 30_000


def crossed_probabilities(features: Floats, targets: Ints, folds: Ints, *, labels: int) -> Floats:
    """Give the probabilities of each row by a linear head of the rows of all other folds.

    The head is the linear discriminant of the feature statistics, from which the rows of a fold
    are taken out exactly: one pass over the rows, and one small system of equations a fold.

    Args:
        features: One row each, of an encoder that has not learnt the targets.
        targets: The label of each row, by position.
        folds: The fold of each row.
        labels: How many there are.
    Returns:
        Calibrated probabilities. A row whose label no other fold has says nothing: it is NaN.
    Shape: features (n, D), targets and folds (n,), the answer (n, C).
    Source: Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions", 1974.
    """
    from contlearn.training.scoring import fit_temperature, log_softmax

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
    scores[known] = np.exp(log_softmax(scores[known] / temperature))
    return scores


def cross_validated(
    records: Sequence[LabelledRecord], *, task: Task, model: ModelConfig, champion: Path | None
) -> tuple[LabelSpace, list[tuple[LabelledRecord, Floats]]]:
    """Judge records by the encoder that a cycle begins with and heads that have not seen them.

    Args:
        records: The newest of them are judged, as many as fit.
        task: What they are for.
        model: The configured model; its base is the encoder where there is no champion.
        champion: The version folder that the cycle begins with.
    Returns:
        The labels of the records, and each record with the probabilities of its text, (C,), or of
        its words, (words, C).
    """
    from contlearn.training.encoded import encode_records
    from contlearn.training.scoring import features_of

    checkpoint = _start(task, model, champion)
    space = task.extend_labels(LabelSpace(), [record.target for record in records])
    records = _newest(records)
    data = encode_records(records, checkpoint, task=task, space=space, max_tokens=model.max_tokens)
    if not len(data) or len(space) < 2:
        return space, []
    owners = np.repeat(data.owners.numpy(), np.diff(data.offsets.numpy()))
    folds = np.array([_fold(record) for record in records], dtype=np.int64)[owners]
    features, targets = features_of(checkpoint.model, data), data.flat.numpy()
    found = crossed_probabilities(features, targets, folds, labels=len(space))
    ends = np.searchsorted(owners, np.arange(len(records) + 1))
    judged = []
    for place, record in enumerate(records):
        rows = found[ends[place] : ends[place + 1]]
        if len(rows):
            judged.append((record, rows.mean(axis=0) if data.is_flat else rows))
    return space, judged


def _start(task: Task, model: ModelConfig, champion: Path | None) -> Checkpoint:
    import torch

    from contlearn.modeling.checkpoint import load_checkpoint, new_checkpoint

    if champion is not None:
        checkpoint = load_checkpoint(champion / "checkpoint")
    else:
        checkpoint = new_checkpoint(
            model.base,
            labels=LabelSpace(),
            per=task.heads(LabelSpace())[0].per,
            pooling=model.pooling,
            dropout=0.0,
        )
    checkpoint.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return checkpoint


def _newest(records: Sequence[LabelledRecord]) -> Sequence[LabelledRecord]:
    rows = 0
    for place in range(len(records) - 1, -1, -1):
        target = records[place].target
        rows += 1 if isinstance(target, str) else len(target)
        if rows > MOST_ROWS:
            return records[place + 1 :]
    return records


def _fold(record: LabelledRecord) -> int:
    """Choose the fold by the group, so that one customer or document stands in one."""
    name = record.group or record.record_id
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:4], "big") % FOLDS
