"""An encoder of transformers, a pooling and our growing head, behind one tensor in, one out."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from contlearn.interfaces import HeadSpec
from contlearn.modeling.head import LabelHead
from contlearn.modeling.packing import IDS, MASK, PLACES, trim
from contlearn.types import LabelSpace

__all__ = ["Pooling", "TextModel"]

Pooling: TypeAlias = Literal["mean", "first"]


class TextModel(nn.Module):
    """Scores packed inputs: one row of logits a text, or one for each place that the task marks.

    Rows of all inputs follow each other in one (rows, C) matrix, so that losses, distillation and
    importances of any library see an ordinary model of vectors.

    Args:
        encoder: A transformers encoder; it is given ids and mask only.
        head: The task's head: its outputs, what a row of scores belongs to, how it is learnt.
        pooling: How a text becomes one vector; other views use it for projections only.
        dropout: Before the head, while training.
    Shape: input (B, 2 or 3, L) as `pack` makes it; output (B, C) or (rows, C).
    """

    def __init__(
        self,
        encoder: Any,
        *,
        head: HeadSpec,
        pooling: Pooling = "mean",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = head.view
        self.loss = head.loss
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = LabelHead(int(encoder.config.hidden_size), head.outputs)

    @property
    def labels(self) -> LabelSpace:
        """The outputs, in order."""
        return self.head.labels

    @property
    def has_places(self) -> bool:
        """Whether rows of scores belong to places in the text, of which there may be many."""
        return self.view != "pooled"

    @property
    def width(self) -> int:
        """The size of a feature vector."""
        return self.head.width

    def hidden(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """Encode trimmed inputs. Shape: (B, L, D), and the trimmed input (B, k, L)."""
        packed = trim(packed)
        states: Tensor = self.encoder(
            input_ids=packed[:, IDS], attention_mask=packed[:, MASK]
        ).last_hidden_state
        return states, packed

    def get_features(self, x: Tensor) -> Tensor:
        """Give what the head scores. Shape: (B, D), or (rows, D)."""
        states, packed = self.hidden(x)
        if self.has_places:
            return states[packed[:, PLACES].bool()]
        return pool(states, packed[:, MASK], self.pooling)

    def forward(self, x: Tensor) -> Tensor:
        """Score packed inputs."""
        scores: Tensor = self.head(self.dropout(self.get_features(x)))
        return scores

    def rows_of(self, packed: Tensor) -> Tensor:
        """Say how many rows of logits each input gives. Shape: (B,)."""
        if self.has_places:
            return packed[:, PLACES].sum(dim=1)
        return torch.ones(len(packed), dtype=torch.long)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector of a text: the mean over its pieces, or the first piece.

    Shape: states (B, L, D), mask (B, L); result (B, D).
    """
    if pooling == "first":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)  # (B, L, 1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
