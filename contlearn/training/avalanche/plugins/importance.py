"""avalanche's importance plugins with state that lasts, aligned to a model that grew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from contlearn.training.avalanche.bridge import (
    EWCPlugin,
    MASPlugin,
    ParamData,
    RWalkPlugin,
    SynapticIntelligencePlugin,
)

__all__ = ["make_ewc", "make_mas", "make_rwalk", "make_si"]

Tensors = Mapping[str, Tensor]


def _part(tensors: Tensors, name: str) -> dict[str, Tensor]:
    """Give the tensors under one heading."""
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}


def _joined(**parts: Tensors) -> dict[str, Tensor]:
    return {
        f"{heading}/{name}": tensor
        for heading, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def _data(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.data for name, value in values.items()}


def _aligned(model: nn.Module, tensors: Tensors) -> dict[str, Any]:
    """Put tensors in the model's order and shape, zeros where the model grew or nothing was.

    avalanche's own way of growing indexes with a list of slices, which torch is about to read as
    something else.
    """
    found: dict[str, Any] = {}
    for name, parameter in model.named_parameters():
        grown = torch.zeros_like(parameter, requires_grad=False)
        if name in tensors:
            grown[: len(tensors[name])] = tensors[name].to(grown)
        found[name] = ParamData(name, init_tensor=grown, device=grown.device)
    return found


def _weights(model: nn.Module, names: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if name in names}


class _Ewc(EWCPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Separate penalties, of which the earlier ones were joined into one."""

    def lasting_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        newest = _data(self.importances[max(self.importances)])
        before = min(self.importances) if len(self.importances) > 1 else None
        weights = _weights(model, newest)
        if before is None:
            return _joined(importance=newest, anchor=weights)
        old, anchors = _data(self.importances[before]), _data(self.saved_params[before])
        total = {name: newest[name] + old[name] for name in newest}
        middle = {
            name: (newest[name] * weights[name] + old[name] * anchors[name])
            / total[name].clamp(min=1e-30)
            for name in newest
        }
        # Where nothing mattered, the newest weight is as good as any.
        anchor = {n: torch.where(total[n] > 0, middle[n], weights[n]) for n in newest}
        return _joined(importance=total, anchor=anchor)


def make_ewc(model: nn.Module, kept: Tensors, *, started: bool, strength: float) -> Any:
    """Make elastic weight consolidation whose past is one penalty."""
    plugin = _Ewc(ewc_lambda=strength, mode="separate")
    if kept and started:
        # avalanche adds one penalty for each experience below its count; the others are empty.
        plugin.importances[0] = _aligned(model, _part(kept, "importance"))
        plugin.saved_params[0] = _aligned(model, _part(kept, "anchor"))
    return plugin


class _Mas(MASPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Goes on where the loss is exactly zero, which avalanche takes for a missing one."""

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if not strategy.loss:
            strategy.loss = strategy.loss + torch.finfo(strategy.loss.dtype).tiny
        super().before_backward(strategy, *args, **kwargs)

    def lasting_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        importance = _data(self.importance)
        return _joined(importance=importance, anchor=_weights(model, importance))


def make_mas(
    model: nn.Module, kept: Tensors, *, started: bool, strength: float, past_share: float
) -> Any:
    """Make memory aware synapses."""
    plugin = _Mas(lambda_reg=strength, alpha=past_share)
    if started:
        plugin.importance = _aligned(model, _part(kept, "importance"))
        plugin.params = _aligned(model, _part(kept, "anchor"))
    return plugin


class _RWalk(RWalkPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Goes back to training mode after its own pass, and never divides by nothing."""

    def _update_grad(self, strategy: Any) -> None:
        super()._update_grad(strategy)
        strategy.model.train()

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._update_score(strategy)  # what came after the last whole stretch
        super().after_training_exp(strategy, *args, **kwargs)
        for item in self.exp_penalties.values():
            item.data = torch.nan_to_num(item.data, nan=0.0, posinf=0.0, neginf=0.0)

    def lasting_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        penalty = _data(self.exp_penalties)
        return _joined(
            penalty=penalty,
            score=_data(self.exp_scores),
            fisher=_data(self.iter_importance or {}),
            anchor=_weights(model, penalty),
        )

    def state_tensors(self) -> dict[str, Tensor]:
        return _joined(
            fisher=_data(self.iter_importance or {}),
            loss=_data(self.checkpoint_loss),
            scores=_data(self.checkpoint_scores),
            params=_data(self.checkpoint_params),
        )

    def load_state_tensors(self, tensors: Tensors) -> None:
        def read(name: str) -> dict[str, Any]:
            return {
                key: ParamData(key, init_tensor=value, device=value.device)
                for key, value in _part(tensors, name).items()
            }

        self.iter_importance = read("fisher") or None
        self.checkpoint_loss, self.checkpoint_scores = read("loss"), read("scores")
        self.checkpoint_params = read("params")


def make_rwalk(
    model: nn.Module,
    kept: Tensors,
    *,
    started: bool,
    strength: float,
    newest_share: float,
    steps: int,
) -> Any:
    """Make Riemannian walk."""
    plugin = _RWalk(ewc_lambda=strength, ewc_alpha=newest_share, delta_t=steps)
    if started:
        plugin.exp_penalties = _aligned(model, _part(kept, "penalty"))
        plugin.exp_params = _aligned(model, _part(kept, "anchor"))
        if kept:
            plugin.exp_scores = _aligned(model, _part(kept, "score"))
            plugin.iter_importance = _aligned(model, _part(kept, "fisher"))
    return plugin


class _Si(SynapticIntelligencePlugin):  # type: ignore[misc]  # avalanche is untyped
    """avalanche keeps flat tensors; a head that grew has its new rows at their end.

    Two things are put right: on a CPU avalanche's copies of weights are views of the weights
    themselves, so that nothing ever seems to move; and importances may fall below zero, which
    would reward moving away without bound.
    """

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        super().before_training_exp(strategy, **kwargs)
        _own(self.ewc_data[0])

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        super().before_training_iteration(strategy, **kwargs)
        _own(self.syn_data["old_theta"])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        super().after_training_exp(strategy, **kwargs)
        for value in self.ewc_data[1].values():
            value.data = value.data.clamp(min=0.0)

    def lasting_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        return _joined(
            importance=_data(self.ewc_data[1]), cumulative=_data(self.syn_data["cum_trajectory"])
        )

    def state_tensors(self) -> dict[str, Tensor]:
        return _joined(trajectory=_data(self.syn_data["trajectory"]))

    def load_state_tensors(self, tensors: Tensors) -> None:
        for name, tensor in _part(tensors, "trajectory").items():
            self.syn_data["trajectory"][name].data = tensor.clone()


def _own(values: Mapping[str, Any]) -> None:
    """Make tensors that share memory with a model's weights independent of them."""
    for value in values.values():
        value.data = value.data.clone()


def make_si(model: nn.Module, kept: Tensors, *, started: bool, strength: float) -> Any:
    """Make synaptic intelligence."""
    plugin = _Si(si_lambda=strength)
    if kept and started:
        plugin.create_syn_data(model, plugin.ewc_data, plugin.syn_data, set())
        for target, heading in (
            (plugin.ewc_data[1], "importance"),
            (plugin.syn_data["cum_trajectory"], "cumulative"),
        ):
            for name, tensor in _part(kept, heading).items():
                if name in target:
                    grown = torch.zeros_like(target[name].data)
                    grown[: len(tensor)] = tensor
                    target[name].data = grown
    return plugin
