"""The loss of a mini-batch, as a criterion that any avalanche plugin may call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from contlearn.config import TrainingConfig
from contlearn.errors import ConfigError
from contlearn.interfaces import Loss
from contlearn.types import LabelSpace

__all__ = ["RowLoss", "fit_of", "label_weights", "make_loss", "row_losses"]

# A label that is hardly there does not outweigh all others.
_GREATEST = 10.0


def row_losses(kind: Loss, scores: Tensor, targets: Tensor) -> Tensor:
    """Give the plain loss of each row of a head that is learnt in this way.

    Shape: scores (n, C); targets (n,) positions for "softmax", (n,) numbers of steps reached for
    "ordinal", (n, C) numbers for "sigmoid" and "squared"; the answer (n,).
    Source: for ordinal, Frank and Hall, "A Simple Approach to Ordinal Classification", 2001, learnt
    together as in Niu et al., "Ordinal Regression with Multiple Output CNN", 2016.
    Example:
        >>> row_losses("squared", torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
        tensor([2.])
    """
    functional = nn.functional
    if kind == "softmax":
        return functional.cross_entropy(scores, targets, reduction="none")
    if kind == "squared":
        return (scores - targets).square().mean(dim=1)
    if kind == "ordinal":
        steps = torch.arange(scores.shape[1], device=scores.device)
        targets = (steps < targets.unsqueeze(1)).to(scores)
    return functional.binary_cross_entropy_with_logits(
        scores, targets.to(scores), reduction="none"
    ).mean(dim=1)


def fit_of(kind: Loss, scores: Tensor, targets: Tensor) -> Tensor:
    """Say how well rows of scores fit their targets, from 0 to 1: the measure without its steps.

    Where one output is right it is that output's probability. Shape: as `row_losses`.
    """
    return (-row_losses(kind, scores, targets)).exp()


class RowLoss(nn.Module):
    """Cross-entropy or focal loss over rows of logits, with label weights and smoothing.

    Heads that are learnt in another way have the loss of that kind, and neither of these.

    `reduction` may be set to "none" for a while: plugins that rank rows do so.

    Shape: scores (n, C), targets (n,); a scalar, or (n,) without reduction.
    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017.
    Example:
        >>> loss = RowLoss(gamma=2.0)
        >>> scores = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
        >>> [round(float(x), 4) for x in loss.rows(scores, torch.tensor([0, 0]))]
        [0.1733, 0.0]
    """

    def __init__(
        self,
        *,
        kind: Loss = "softmax",
        gamma: float = 0.0,
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.gamma = gamma
        self.smoothing = smoothing
        self.reduction = "mean"
        self.weights: Tensor | None
        self.register_buffer("weights", weights)

    def rows(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of each row, label weights left out. Shape: (n,)."""
        if self.kind != "softmax":
            return row_losses(self.kind, scores, targets)
        losses = nn.functional.cross_entropy(
            scores, targets, reduction="none", label_smoothing=self.smoothing
        )
        if self.gamma:
            right = scores.log_softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1).exp()
            losses = (1.0 - right) ** self.gamma * losses
        return losses

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of a batch; rows of heavy labels count more in its mean."""
        losses = self.rows(scores, targets)
        if self.weights is None:
            return losses if self.reduction == "none" else losses.mean()
        shares = self.weights.to(losses)[targets]
        if self.reduction == "none":
            return losses * shares
        return (losses * shares).sum() / shares.sum().clamp(min=1e-12)


def make_loss(
    config: TrainingConfig,
    *,
    kind: Loss = "softmax",
    space: LabelSpace,
    shown: Sequence[float],
    device: torch.device,
) -> RowLoss:
    """Make the configured loss.

    Args:
        config: Its loss, class_weights and label_smoothing.
        kind: How the head is learnt.
        space: The outputs.
        shown: How often an epoch shows each label, for balanced weights.
        device: Where to compute.
    Raises:
        ConfigError: When a name is no label, or the head has no labels to weigh.
    """
    if kind != "softmax":
        _refuse_label_keys(config, kind)
        return RowLoss(kind=kind)
    weights = label_weights(config.class_weights, space=space, shown=shown)
    return RowLoss(
        gamma=config.focal_gamma if config.loss == "focal" else 0.0,
        smoothing=config.label_smoothing,
        weights=None if weights is None else torch.tensor(weights, device=device),
    )


def _refuse_label_keys(config: TrainingConfig, kind: Loss) -> None:
    """Refuse what means something only where one label of several is right."""
    defaults = {"loss": "cross-entropy", "class_weights": "none", "label_smoothing": 0.0}
    for name, default in defaults.items():
        value = getattr(config, name)
        if value != default:
            raise ConfigError(
                f"training.{name} is {value!r}, but the task's head is learnt as {kind!r}, without "
                "labels of which one is right.",
                where=f"training.{name} in contlearn.toml",
                hint="Leave it out for this task.",
            )


def label_weights(
    wanted: str | Mapping[str, float], *, space: LabelSpace, shown: Sequence[float]
) -> list[float] | None:
    """Give one weight a label, or None when all count the same.

    Balanced weights are inverse to how often the labels are shown, at most ten times their mean.

    Args:
        wanted: `training.class_weights`.
        space: The labels.
        shown: How often an epoch shows each of them.
    Raises:
        ConfigError: When a name is no label, or a weight is not positive.
    Example:
        >>> label_weights("balanced", space=LabelSpace(("a", "b")), shown=[3, 1])
        [0.6667, 2.0]
    """
    if wanted == "none":
        return None
    where = "training.class_weights in contlearn.toml"
    if isinstance(wanted, Mapping):
        for name, weight in wanted.items():
            if weight <= 0:
                raise ConfigError(
                    f"The weight of the label {name!r} is {weight:g}.",
                    where=where,
                    hint="Give numbers above 0; 1 is ordinary.",
                )
        # A label that has not been seen yet may have its weight already.
        return [float(wanted.get(name, 1.0)) for name in space.names]
    known = [count for count in shown if count]
    if not known:
        return None
    mean = sum(known) / len(known)
    return [round(min(mean / count, _GREATEST), 4) if count else 1.0 for count in shown]
