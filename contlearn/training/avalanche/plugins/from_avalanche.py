"""avalanche's plugins as our regularisers make them: with a teacher or a state from before."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from contlearn.errors import PluginError, TrainingError
from contlearn.modeling.text_model import TextModel
from contlearn.training.avalanche.bridge import EWCPlugin, LwFPlugin, ParamData

__all__ = ["ewc_plugin", "ewc_state", "load_plugin", "lwf_plugin"]


def load_plugin(path: str, options: Mapping[str, Any]) -> Any:
    """Make an avalanche plugin from its import path, "package.module:Class".

    Raises:
        PluginError: When it cannot be imported, is no supervised plugin, or refuses the options.
    """
    where = f"the plugin {path!r} under training.regularizers"
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PluginError(
            f"{path!r} cannot be imported: {error}.",
            where=where,
            hint='Give a path such as "avalanche.training.plugins:MASPlugin".',
        ) from error
    hooks = ("before_backward", "before_training_exp", "after_training_exp", "after_backward")
    if not (isinstance(found, type) and any(hasattr(found, hook) for hook in hooks)):
        raise PluginError(
            f"{path!r} is no avalanche plugin.",
            where=where,
            hint="Name a class with avalanche's hooks, such as a SupervisedPlugin.",
        )
    try:
        return found(**options)
    except (TypeError, ValueError, AssertionError) as error:
        raise PluginError(
            f"{path!r} refuses its options: {error}",
            where=where,
            hint=f"It was given: {', '.join(sorted(options)) or 'none'}.",
        ) from error


def lwf_plugin(teacher: TextModel, *, alpha: float, temperature: float) -> Any:
    """Make learning without forgetting whose teacher is the champion, on all its labels."""
    plugin = LwFPlugin(alpha=alpha, temperature=temperature)
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    plugin.lwf.prev_model = teacher
    plugin.lwf.prev_classes_by_task[0] = set(range(len(teacher.labels)))
    # The teacher of the next update is read from the next champion: no copy is kept here.
    plugin.after_training_exp = _nothing
    return plugin


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def ewc_plugin(
    *,
    strength: float,
    decay: float,
    importances: Mapping[str, Tensor],
    anchors: Mapping[str, Tensor],
    experiences_before: int,
) -> Any:
    """Make online elastic weight consolidation with the state it had when it was saved."""
    plugin = EWCPlugin(ewc_lambda=strength, mode="online", decay_factor=decay)
    if importances and experiences_before > 0:
        last = experiences_before - 1
        plugin.importances[last] = {
            name: ParamData(name, init_tensor=value.clone()) for name, value in importances.items()
        }
        plugin.saved_params[last] = {
            name: ParamData(name, init_tensor=value.clone()) for name, value in anchors.items()
        }
    return plugin


def ewc_state(plugin: Any, names: Iterable[str]) -> dict[str, Tensor]:
    """Give the newest importances of the named parameters.

    Raises:
        TrainingError: When the plugin has not seen the end of an experience.
    """
    if not plugin.importances:
        raise TrainingError(
            "The importances were never computed.",
            where="online-ewc",
            hint="This is a bug in contlearn; please report it.",
        )
    newest = plugin.importances[max(plugin.importances)]
    return {name: newest[name].data.detach().clone() for name in names if name in newest}
