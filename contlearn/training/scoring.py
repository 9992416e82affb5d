"""A model's features and logits on encoded records, and how good they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from contlearn.interfaces import Loss, Task
from contlearn.modeling.text_model import TextModel
from contlearn.statistics.scores import log_softmax
from contlearn.tasks.measures import metric_named
from contlearn.training.encoded import EncodedSet
from contlearn.training.losses import fit_of
from contlearn.types import Calibration, LabelSpace, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = [
    "answers_of",
    "features_of",
    "fit_share",
    "logits_of",
    "metric_of",
    "right_share",
]

_BATCH: Final = 32


@torch.no_grad()
def _rows(model: TextModel, data: EncodedSet, function: Callable[..., torch.Tensor]) -> Floats:
    """Run a function over all inputs, longest apart from shortest; rows in the set's order."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    order = torch.argsort(data.lengths, stable=True).tolist()
    pieces: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        rows: Any = function(data.batch(part)[0].to(device)).cpu()
        sizes = [int(data.offsets[i + 1] - data.offsets[i]) for i in part]
        pieces.update(zip(part, rows.split(sizes), strict=True))
    model.train(training)
    if not pieces:
        return np.zeros((0, 0))
    return torch.cat([pieces[i] for i in range(len(order))]).numpy().astype(np.float64)


def features_of(model: TextModel, data: EncodedSet) -> Floats:
    """Give what the head would score. Shape: (rows, D)."""
    found = _rows(model, data, model.get_features)
    return found if found.size else np.zeros((0, model.width))


def logits_of(model: TextModel, data: EncodedSet) -> Floats:
    """Score inputs. Shape: (rows, C)."""
    found = _rows(model, data, model)
    return found if found.size else np.zeros((0, len(model.labels)))


def right_share(logits: Floats, targets: Ints, *, temperature: float = 1.0) -> Floats:
    """Give the probability of the right label, row by row: accuracy without its steps."""
    if not len(logits):
        return np.zeros(0)
    result: Floats = np.exp(log_softmax(logits, temperature)[np.arange(len(targets)), targets])
    return result


def fit_share(kind: Loss, logits: Floats, targets: torch.Tensor) -> Floats:
    """Say how well each row of scores fits its targets, from 0 to 1. Shape: as `losses.fit_of`."""
    if kind == "softmax":
        return right_share(logits, targets.numpy())
    if not len(logits):
        return np.zeros(0)
    found: Floats = fit_of(kind, torch.as_tensor(logits), targets).numpy()
    return found


def metric_of(
    task: Task,
    data: EncodedSet,
    logits: Floats,
    space: LabelSpace,
    *,
    records: Sequence[int] | None = None,
) -> float:
    """Decode logits as a server would and give the primary metric, turned so that more is better.

    `records` are the positions of the records that count; all if left out.
    """
    answers, targets = answers_of(task, data, logits, space, records=records)
    if not answers:
        return 0.0
    sums = task.statistics(answers, targets, space).sum(axis=0)
    value = float(task.summarise(sums, space)[task.primary_metric])
    return float(metric_named(task, task.primary_metric).oriented(value))


def answers_of(
    task: Task,
    data: EncodedSet,
    logits: Floats,
    space: LabelSpace,
    *,
    records: Sequence[int] | None = None,
) -> tuple[list[Target], list[Target]]:
    """Decode logits as a server would; give answers and targets of records that gave an input."""
    chosen = range(len(data.records)) if records is None else records
    windows: dict[int, list[int]] = {}
    for window, owner in enumerate(data.owners.tolist()):
        windows.setdefault(owner, []).append(window)
    head = task.heads(space)[0].name
    answers: list[Target] = []
    targets: list[Target] = []
    for position in chosen:
        record = data.records[position]
        parts = [
            logits[int(data.offsets[w]) : int(data.offsets[w + 1])]
            for w in windows.get(position, [])
        ]
        outputs = [{head: part[0] if data.is_flat else part} for part in parts]
        if outputs:
            prediction = task.decode(
                outputs, data.encodings[position], record.inputs, space, Calibration()
            )
            answers.append(task.stored(prediction.target))
            targets.append(task.stored(record.target))
    return answers, targets
