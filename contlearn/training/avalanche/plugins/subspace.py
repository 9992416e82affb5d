"""The plugin of O-LoRA: no overlap of low-rank updates with earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from contlearn.training.avalanche.bridge import SupervisedPlugin

__all__ = ["Orthogonal"]

_MARK = ".lora_A."


class Orthogonal(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Adds the overlap of each layer's new directions with the basis of earlier ones.

    Shape: a basis (k, inputs), orthonormal rows.
    """

    def __init__(
        self, model: Any, kept: Mapping[str, Tensor], *, strength: float, directions: int
    ) -> None:
        super().__init__()
        self.strength, self.most = strength, directions
        device = next(model.parameters()).device
        self.basis = {name: value.to(device) for name, value in kept.items()}
        self._new: dict[str, Tensor] = {}

    def before_backward(self, strategy: Any, **_: Any) -> None:
        overlap = strategy.loss.new_zeros(())
        for name, parameter in _directions(strategy.model):
            if name in self.basis:
                overlap = overlap + (parameter @ self.basis[name].T).abs().sum()
        strategy.loss = strategy.loss + self.strength * overlap

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        self._new = {name: p.detach().clone() for name, p in _directions(strategy.model)}

    def directions_after(self) -> dict[str, Tensor]:
        """Give the bases with this update's directions, the strongest first where room is short."""
        found = dict(self.basis)
        for name, new in self._new.items():
            rows = new / new.norm(dim=1, keepdim=True).clamp(min=1e-12)
            if name in self.basis:
                rows = torch.cat([self.basis[name], rows])
            _, sizes, right = torch.linalg.svd(rows, full_matrices=False)
            count = min(self.most, int((sizes > 1e-4).sum()))
            found[name] = right[:count].contiguous()
        return found


def _directions(model: Any) -> list[tuple[str, Tensor]]:
    """Find the A matrices by the layer they belong to. Shape: (rank, inputs)."""
    return [
        (name.split(_MARK)[0].removeprefix("encoder.base_model.model."), parameter)
        for name, parameter in model.named_parameters()
        if _MARK in name
    ]
