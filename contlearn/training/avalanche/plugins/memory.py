"""Plugins that look back at exemplars: the records come from contlearn's own replay buffer.

avalanche's plugins fill memories of their own while they run; here the memory is given, bounded
and durable, and whatever is drawn comes from torch's generator, so that a resumed training draws
the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contlearn.training.avalanche.bridge import (
    AGEMPlugin,
    GEMPlugin,
    LFLPlugin,
    SupervisedPlugin,
)
from contlearn.training.encoded import EncodedSet
from contlearn.training.losses import RowLoss

__all__ = ["AverageGem", "BoundedGem", "DarkExperience", "Interfered", "LessForgetful", "NewRows"]

_LEAST_SQUARE = 1e-30
_IDS = "records.json"
_LOGITS = "logits.safetensors"


def draw(memory: EncodedSet, count: int) -> list[int]:
    """Draw inputs without putting them back, from torch's generator."""
    return torch.randperm(len(memory))[:count].tolist()


def _batch(memory: EncodedSet, indices: Sequence[int], device: Any) -> tuple[Tensor, Tensor]:
    inputs, targets = memory.batch(indices)
    return inputs.to(device), targets.to(device)


class AverageGem(AGEMPlugin):  # type: ignore[misc]  # avalanche is untyped
    """A-GEM over exemplars: no step may raise the loss on a draw of them."""

    def __init__(self, memory: EncodedSet, *, sample_size: int) -> None:
        super().__init__(patterns_per_experience=len(memory), sample_size=sample_size)
        self.reference_gradients: Tensor
        self.memory = memory
        self.buffers = [memory]

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        super().before_training_iteration(strategy, **kwargs)
        # Exemplars that are known perfectly give a gradient whose square is 0 in fp32.
        gradients: Tensor = self.reference_gradients
        if float(torch.dot(gradients, gradients)) < _LEAST_SQUARE:
            gradients.zero_()

    def sample_from_memory(self) -> tuple[Tensor, Tensor, Tensor]:
        inputs, targets = self.memory.batch(draw(self.memory, self.sample_size))
        return inputs, targets, torch.zeros(len(inputs), dtype=torch.long)

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Keep nothing: the replay buffer does."""


class BoundedGem(GEMPlugin):  # type: ignore[misc]  # avalanche is untyped
    """GEM with at most so many constraints, each a stretch of time of the exemplars.

    avalanche has one for each experience, so its cost grows without end.
    """

    def __init__(
        self, memory: EncodedSet, *, constraints: int, patterns: int, strength: float
    ) -> None:
        super().__init__(patterns_per_experience=patterns, memory_strength=strength)
        owners = memory.owners.tolist()
        received = [memory.records[owner].received_at for owner in owners]
        firsts = [float(memory.flat[memory.offsets[i]].max()) for i in range(len(memory))]
        order = sorted(range(len(memory)), key=lambda i: (received[i], firsts[i], i))
        parts = np.array_split(np.asarray(order), min(constraints, len(order)))
        self.memory = memory
        self.groups = [part.tolist() for part in parts]

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        rows = []
        for group in self.groups:
            chosen = torch.randperm(len(group))[: self.patterns_per_experience].tolist()
            inputs, targets = _batch(self.memory, [group[i] for i in chosen], strategy.device)
            strategy.optimizer.zero_grad()
            strategy._criterion(strategy.model(inputs), targets).backward()  # noqa: SLF001
            rows.append(
                torch.cat(
                    [
                        p.grad.flatten() if p.grad is not None else p.new_zeros(p.numel())
                        for p in strategy.model.parameters()
                    ]
                ).detach()
            )
        self.G = torch.stack(rows)

    def solve_quadprog(self, g: Tensor) -> Tensor:
        """Project the gradient; one that no solver can is left as it is."""
        try:
            found: Tensor = super().solve_quadprog(g)
        except (TypeError, ValueError, np.linalg.LinAlgError):
            return g
        return found if bool(torch.isfinite(found).all()) else g

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Keep nothing: the replay buffer does."""


class Interfered(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """MIR over exemplars: those whose loss the step at hand would raise most are shown too.

    avalanche's own copies the whole model in every step and cannot do with frozen weights; here
    the step is tried on the weights themselves and taken back.

    Args:
        memory: Exemplars.
        subsample: How many of them are looked at in a step.
        batch_size: How many of those are shown.
    """

    def __init__(self, memory: EncodedSet, *, subsample: int, batch_size: int) -> None:
        super().__init__()
        self.memory, self.subsample, self.batch_size = memory, subsample, batch_size

    def before_backward(self, strategy: Any, **_: Any) -> None:
        model, criterion = strategy.model, strategy._criterion  # noqa: SLF001
        indices = draw(self.memory, self.subsample)
        inputs, targets = _batch(self.memory, indices, strategy.device)
        groups = strategy.optimizer.param_groups
        weights = [(p, group["lr"]) for group in groups for p in group["params"]]
        gradients = torch.autograd.grad(
            strategy.loss, [p for p, _ in weights], retain_graph=True, allow_unused=True
        )
        with torch.no_grad():
            before = criterion.rows(model(inputs), targets)
            kept = [p.clone() for p, _ in weights]
            for (parameter, rate), gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    parameter.data.sub_(rate * gradient)
            after = criterion.rows(model(inputs), targets)
            for (parameter, _), value in zip(weights, kept, strict=True):
                parameter.data.copy_(value)
        worst = (after - before).argsort(descending=True)[: self.batch_size].tolist()
        inputs, targets = _batch(self.memory, [indices[i] for i in worst], strategy.device)
        strategy.loss = strategy.loss + criterion(model(inputs), targets)


class LessForgetful(LFLPlugin):  # type: ignore[misc]  # avalanche is untyped
    """LFL whose teacher is the champion; avalanche's leaves the student in evaluation mode."""

    def __init__(self, teacher: nn.Module, *, strength: float) -> None:
        super().__init__(lambda_e=strength)
        self.prev_model: Any = teacher.eval().requires_grad_(False)

    def compute_features(self, model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            before = self.prev_model.get_features(x)
        return model.get_features(x), before

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Keep nothing: the next teacher is the next champion."""


class NewRows(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """ER-ACE: new rows compete only with the labels of new rows, so old ones are not pushed away.

    Source: Caccia et al., "New Insights on Reducing Abrupt Representation Change in Online
    Continual Learning", 2022.
    """

    def before_backward(self, strategy: Any, **_: Any) -> None:
        inputs, scores, targets = strategy.mb_x, strategy.mb_output, strategy.mb_y
        flags = strategy.text_loop.new_inputs() if strategy.text_loop is not None else None
        if flags is None or len(flags) != len(inputs):
            return
        new = torch.tensor(flags).repeat_interleave(strategy.model.rows_of(inputs.cpu()))
        new = new.to(scores.device)
        if not bool(new.any()):
            return
        loss: RowLoss = strategy._criterion  # noqa: SLF001  # avalanche has no public name
        seen = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        seen[targets[new]] = True
        masked = scores[new].masked_fill(~seen, -1e9)
        # Without smoothing: mass on a label that is out of reach would be a loss without bound.
        fresh = nn.functional.cross_entropy(masked, targets[new], reduction="sum")
        rest = ~new
        old = loss(scores[rest], targets[rest]) * rest.sum() if bool(rest.any()) else 0.0
        instead = (fresh + old) / len(targets)
        strategy.loss = strategy.loss - loss(scores, targets) + instead


class DarkExperience(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """DER++: exemplars keep the scores they were learnt with, and are held to them.

    Scores are as wide as the head was then; labels that came later are not compared.

    Args:
        memory: All exemplars.
        train: The positions of those that may be trained on.
        logits: Scores of each row of the memory; NaN where the label was not known.
        alpha: Weight of the distance to the stored scores.
        beta: Weight of the ordinary loss on exemplars; 0 for DER without ++.
        batch_size: Exemplars a step.
    Shape: logits (rows of the memory, C).
    Source: Buzzega et al., "Dark Experience for General Continual Learning", 2020.
    """

    def __init__(
        self,
        memory: EncodedSet,
        train: Sequence[int],
        logits: Tensor,
        *,
        alpha: float,
        beta: float,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.memory, self.logits = memory, logits
        self.alpha, self.beta, self.batch_size = alpha, beta, batch_size
        allowed = set(train)
        self.usable = [i for i, owner in enumerate(memory.owners.tolist()) if owner in allowed]

    def _draw(self) -> list[int]:
        chosen = torch.randperm(len(self.usable))[: self.batch_size].tolist()
        return [self.usable[i] for i in chosen]

    def before_backward(self, strategy: Any, **_: Any) -> None:
        if not self.usable:
            return
        indices = self._draw()
        inputs, _targets = _batch(self.memory, indices, strategy.device)
        starts = self.memory.offsets.tolist()
        rows = [row for i in indices for row in range(starts[i], starts[i + 1])]
        stored = self.logits[rows].to(strategy.device)
        scores = strategy.model(inputs)[:, : stored.shape[1]]
        known = ~stored.isnan()
        distance = ((scores - stored.nan_to_num())[known] ** 2).mean()
        strategy.loss = strategy.loss + self.alpha * distance
        if self.beta:
            inputs, targets = _batch(self.memory, self._draw(), strategy.device)
            loss = strategy._criterion(strategy.model(inputs), targets)  # noqa: SLF001
            strategy.loss = strategy.loss + self.beta * loss


def stored_logits(memory: EncodedSet, folder: Path | None, champion: Any) -> Tensor:
    """Give the scores of each row: those that were stored, else the champion's.

    The champion is the model as the last experience left it, so exemplars of that experience get
    the scores they were learnt with. Shape: (rows, C).
    """
    from contlearn.training.resume import load_tensors
    from contlearn.training.scoring import logits_of

    width = len(champion.labels)
    rows = torch.from_numpy(logits_of(champion, memory)).float().reshape(-1, width)
    if folder is None or not (folder / _LOGITS).is_file():
        return rows
    facts: Mapping[str, list[int]] = json.loads((folder / _IDS).read_text(encoding="utf-8"))
    before = load_tensors(folder / _LOGITS)["logits"]
    for record, positions in _rows_by_record(memory).items():
        start, count = facts.get(record, (0, -1))
        if count == len(positions):
            kept = torch.full((count, width), float("nan"))
            kept[:, : before.shape[1]] = before[start : start + count]
            rows[positions] = kept
    return rows


def save_logits(memory: EncodedSet, logits: Tensor, folder: Path) -> None:
    """Write the scores of all exemplars, by record."""
    from contlearn.training.resume import save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, list[int]] = {}
    order: list[int] = []
    for record, positions in sorted(_rows_by_record(memory).items()):
        facts[record] = [len(order), len(positions)]
        order.extend(positions)
    save_tensors({"logits": logits[order]}, folder / _LOGITS)
    (folder / _IDS).write_text(json.dumps(facts), encoding="utf-8")


def _rows_by_record(memory: EncodedSet) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    starts = memory.offsets.tolist()
    for window, owner in enumerate(memory.owners.tolist()):
        rows = range(starts[window], starts[window + 1])
        found.setdefault(memory.records[owner].record_id, []).extend(rows)
    return found
