"""Plugins that make a model less sensitive: noise on embeddings, dropout twice, mixed features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from contlearn.modeling.additions import inner_encoder
from contlearn.modeling.packing import MASK, trim
from contlearn.training.avalanche.bridge import SupervisedPlugin

__all__ = ["Adversarial", "HiddenMixup", "RepeatedDropout", "Smoothness"]


class EmbeddingNoise:
    """Adds a tensor to what the encoder's input embeddings give, while `using` is open."""

    def __init__(self, model: Any) -> None:
        self._noise: Tensor | None = None
        embeddings = inner_encoder(model.encoder).get_input_embeddings()
        self._handle = embeddings.register_forward_hook(self._add)

    def _add(self, _module: Any, _inputs: Any, output: Tensor) -> Tensor | None:
        return None if self._noise is None else output + self._noise

    @contextlib.contextmanager
    def using(self, noise: Tensor) -> Iterator[None]:
        """Add `noise` to all embeddings. Shape: (B, L, D)."""
        self._noise = noise
        try:
            yield
        finally:
            self._noise = None

    def remove(self) -> None:
        """Take the hook out again."""
        self._handle.remove()


def _embeddings(model: Any, packed: Tensor) -> Tensor:
    """Give the embeddings of trimmed inputs, without gradient. Shape: (B, L, D)."""
    with torch.no_grad():
        found: Tensor = inner_encoder(model.encoder).get_input_embeddings()(packed[:, 0])
    return found


def _scaled(direction: Tensor, size: Tensor) -> Tensor:
    """Give each text's direction the wanted length. Shape: (B, L, D), (B,)."""
    norm = direction.flatten(1).norm(dim=1).clamp(min=1e-12)
    found: Tensor = direction * (size / norm).view(-1, 1, 1)
    return found


def _bounded(noise: Tensor, size: Tensor) -> Tensor:
    norm = noise.flatten(1).norm(dim=1).clamp(min=1e-12)
    found: Tensor = noise * (size / norm).clamp(max=1.0).view(-1, 1, 1)
    return found


class Adversarial(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Adds the gradients of the loss under the worst small change of the embeddings.

    A change is measured against the text's own embeddings: `epsilon` is the share of their length.

    Args:
        model: A `TextModel`.
        kind: "fgm" steps once; "pgd" several times and trains on the last; "freelb" trains on all.
        epsilon: How large the change is, relative to the embeddings.
        steps: Steps up the gradient.
        step_size: Of each step, relative to epsilon.
        weight: Of the adversarial loss.
    Source: Miyato et al., 2017 (FGM); Madry et al., 2018 (PGD); Zhu et al., 2020 (FreeLB).
    """

    def __init__(
        self,
        model: Any,
        *,
        kind: Literal["fgm", "pgd", "freelb"],
        epsilon: float,
        steps: int,
        step_size: float,
        weight: float,
        pieces: int,
    ) -> None:
        super().__init__()
        self.kind, self.epsilon, self.steps = kind, epsilon, steps
        self.step_size, self.weight, self.pieces = step_size, weight, pieces
        self.noise = EmbeddingNoise(model)

    def after_backward(self, strategy: Any, **_: Any) -> None:
        model, whole = strategy.model, len(strategy.mb_y)
        targets, taken = strategy.mb_y, 0
        for part in torch.split(strategy.mb_x, self.pieces):
            rows = int(model.rows_of(part.cpu()).sum())
            self._learn(strategy, trim(part), targets[taken : taken + rows], rows / max(whole, 1))
            taken += rows

    def _learn(self, strategy: Any, packed: Tensor, targets: Tensor, share: float) -> None:
        model, criterion = strategy.model, strategy._criterion  # noqa: SLF001
        vectors = _embeddings(model, packed)
        mask = packed[:, MASK].unsqueeze(-1).to(vectors.dtype)
        size = self.epsilon * (vectors * mask).flatten(1).norm(dim=1)

        def loss_at(noise: Tensor) -> Tensor:
            with self.noise.using(noise):
                found: Tensor = criterion(model(packed), targets)
            return found * self.weight * share

        noise = torch.zeros_like(vectors)
        if self.kind != "fgm":
            noise = _scaled(torch.rand_like(vectors).sub_(0.5) * mask, size * self.step_size)
        stride = size if self.kind == "fgm" else size * self.step_size
        for _step in range(self.steps):
            noise = noise.detach().requires_grad_()
            loss = loss_at(noise)
            if self.kind == "freelb":
                torch.autograd.backward(loss / self.steps)
                gradient = noise.grad
            else:
                (gradient,) = torch.autograd.grad(loss, noise)
            if gradient is None or not bool(torch.isfinite(gradient).all()):
                return
            noise = _bounded(noise.detach() + _scaled(gradient * mask, stride), size)
        if self.kind != "freelb":
            torch.autograd.backward(loss_at(noise.detach()))

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        self.noise.remove()


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    """Give the symmetric divergence of two score matrices, the mean over rows."""
    p, q = one.log_softmax(dim=1), other.log_softmax(dim=1)
    forth = nn.functional.kl_div(q, p, reduction="batchmean", log_target=True)
    back = nn.functional.kl_div(p, q, reduction="batchmean", log_target=True)
    return 0.5 * (forth + back)


class Smoothness(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Asks for like scores under the small change that moves them most.

    Source: Jiang et al., "SMART: Robust and Efficient Fine-Tuning", 2020 (its regulariser).
    """

    def __init__(self, model: Any, *, epsilon: float, weight: float) -> None:
        super().__init__()
        self.epsilon, self.weight = epsilon, weight
        self.noise = EmbeddingNoise(model)

    def before_backward(self, strategy: Any, **_: Any) -> None:
        model, packed, scores = strategy.model, trim(strategy.mb_x), strategy.mb_output
        vectors = _embeddings(model, packed)
        mask = packed[:, MASK].unsqueeze(-1).to(vectors.dtype)
        size = self.epsilon * (vectors * mask).flatten(1).norm(dim=1)
        noise = _scaled(torch.randn_like(vectors) * mask, 0.1 * size).requires_grad_()
        with self.noise.using(noise):
            moved = _divergence(model(packed), scores.detach())
        (gradient,) = torch.autograd.grad(moved, noise)
        if bool(torch.isfinite(gradient).all()):
            noise = _bounded(noise.detach() + _scaled(gradient * mask, size), size)
        with self.noise.using(noise.detach()):
            strategy.loss = strategy.loss + self.weight * _divergence(model(packed), scores)

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        self.noise.remove()


class RepeatedDropout(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """R-Drop: shows a batch twice and asks for like scores under both draws of dropout.

    Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", 2021.
    """

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def before_backward(self, strategy: Any, **_: Any) -> None:
        scores, again = strategy.mb_output, strategy.forward()
        second = strategy._criterion(again, strategy.mb_y)  # noqa: SLF001
        strategy.loss = 0.5 * (strategy.loss + second) + self.weight * _divergence(scores, again)


class HiddenMixup(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Mixes the features of pairs of rows, and their targets alike.

    Source: Verma et al., "Manifold Mixup", 2019; Chen, Yang and Yang, "MixText", 2020.
    """

    def __init__(self, model: Any, *, alpha: float, weight: float) -> None:
        super().__init__()
        self.alpha, self.weight = alpha, weight
        self._features: list[Tensor] = []
        self._handle = model.head.register_forward_pre_hook(self._keep)

    def _keep(self, _module: Any, inputs: tuple[Tensor, ...]) -> None:
        self._features = [inputs[0]]

    def before_backward(self, strategy: Any, **_: Any) -> None:
        model, targets = strategy.model, strategy.mb_y
        features = self._features[0]
        if len(features) != len(targets) or not features.requires_grad:
            # The batch went through the model in pieces.
            features = model.dropout(model.get_features(strategy.mb_x))
        share = float(np.random.beta(self.alpha, self.alpha))  # saved with the state
        other = torch.randperm(len(targets), device=targets.device)
        scores = model.head(share * features + (1.0 - share) * features[other])
        loss = strategy._criterion  # noqa: SLF001
        mixed = share * loss(scores, targets) + (1.0 - share) * loss(scores, targets[other])
        strategy.loss = (1.0 - self.weight) * strategy.loss + self.weight * mixed
        self._features = []

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        self._handle.remove()
