"""A linear head whose rows belong to label names and that only ever grows."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from contlearn.types import LabelSpace

__all__ = ["LabelHead"]


class LabelHead(nn.Module):
    """Scores features for every label; row i belongs to `labels.names[i]`.

    Args:
        width: Size of a feature vector.
        labels: The labels to begin with; more come through `grow`.
    """

    def __init__(self, width: int, labels: LabelSpace | None = None) -> None:
        super().__init__()
        self.width = width
        self.labels = LabelSpace()
        self.weight = nn.Parameter(torch.zeros(0, width))
        self.bias = nn.Parameter(torch.zeros(0))
        self.grow(labels or LabelSpace())

    def grow(self, labels: LabelSpace) -> bool:
        """Add rows for the labels that are not there yet; old rows stay equal bit by bit.

        A new row is drawn from its label's name, so that it does not depend on what came before.

        Returns:
            Whether the head grew, so that an optimizer must take up the new parameters.
        Raises:
            ValueError: When `labels` does not begin with the labels that are there.
        """
        old = self.labels.names
        if labels.names[: len(old)] != old:
            raise ValueError("a head's labels are only appended to")
        fresh = labels.names[len(old) :]
        if not fresh:
            return False
        with torch.no_grad():
            rows = torch.stack([_row(name, self.width) for name in fresh]).to(self.weight)
            self.weight = nn.Parameter(torch.cat([self.weight, rows]))
            self.bias = nn.Parameter(torch.cat([self.bias, self.bias.new_zeros(len(fresh))]))
        self.labels = labels
        return True

    def set_rows(self, weight: Tensor, bias: Tensor) -> None:
        """Replace what the head knows, in place. Shape: weight (C, D), bias (C,)."""
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(bias)

    def forward(self, features: Tensor) -> Tensor:
        """Score features. Shape: (..., D) to (..., C)."""
        return nn.functional.linear(features, self.weight, self.bias)


def _row(name: str, width: int) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, generator=generator) * 0.02
