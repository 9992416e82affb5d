"""Parameter groups, freezing, optimizers and the learning rate over time."""

from __future__ import annotations

import difflib
import importlib
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn

from contlearn.config import TrainingConfig
from contlearn.errors import ConfigError, TrainingError
from contlearn.training.layers import depth_of

__all__ = [
    "SCHEDULES",
    "LearningRateWarning",
    "freeze",
    "high_rate",
    "make_optimizer",
    "make_schedule",
    "optimizer_class",
    "rate_factor",
    "resolved",
    "warn_of_rate",
]

_EMBEDDING: Final = re.compile(r"(?:^|\.)(?:embeddings?|wte|wpe|embed_tokens)\.")
_NO_DECAY: Final = re.compile(r"(?:^|\.)bias$|norm", re.IGNORECASE)
_HIGH_RATE: Final = 1e-4


class LearningRateWarning(UserWarning):
    """The learning rate is one that is known to destroy what an encoder knows."""


def high_rate(config: TrainingConfig) -> str | None:
    """Say what is wrong with the learning rate for full fine-tuning, if something is.

    Source: the published collapse of sequential fine-tuning at 1e-3 against 3e-5 (FIELD 1).
    """
    if config.method == "full" and config.learning_rate >= _HIGH_RATE:
        return (
            f"training.learning_rate = {config.learning_rate:g} is high for full fine-tuning: "
            f"from {_HIGH_RATE:g} on, encoders forget what they were pretrained on. "
            'Use 1e-5 to 5e-5, or training.method = "lora".'
        )
    return None


def warn_of_rate(config: TrainingConfig) -> None:
    """Warn of a rate that is too high for full fine-tuning, while nothing is trained yet."""
    message = high_rate(config)
    if message is not None:
        warnings.warn(message, LearningRateWarning, stacklevel=2)


def freeze(encoder: nn.Module, *, embeddings: bool, layers: int) -> None:
    """Keep the embeddings, or the first layers (and then the embeddings too), as they are.

    Raises:
        TrainingError: When the encoder has fewer layers.
    """
    depths = [depth_of(name) for name, _ in encoder.named_parameters()]
    count = max((depth + 1 for depth in depths if depth is not None), default=0)
    if layers > count:
        raise TrainingError(
            f"training.freeze_layers = {layers}, but the encoder has {count} layers.",
            where="training.freeze_layers in contlearn.toml",
            hint=f"Give a number from 0 to {count}.",
        )
    for name, parameter in encoder.named_parameters():
        depth = depth_of(name)
        if depth is not None:
            if depth < layers:
                parameter.requires_grad_(False)
        elif (embeddings or layers > 0) and _EMBEDDING.search(f".{name}"):
            parameter.requires_grad_(False)


def resolved(config: TrainingConfig) -> TrainingConfig:
    """Fill in what the training method decides: its own rate, and whether layers differ."""
    from contlearn.training.methods import METHODS

    method = METHODS[config.method]
    changes: dict[str, Any] = {}
    if not config.learning_rate:
        changes["learning_rate"] = method.rate
    if not method.keeps_layers:
        changes["layer_decay"] = 1.0
    return config.model_copy(update=changes) if changes else config


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Group what is trained by rate and decay, the head last, and make the optimizer.

    Layer i of n learns with rate · decay^(n - 1 - i), embeddings with one factor more. Biases and
    normalisations are not decayed. The head stands last, because new rows join the last group.
    """
    config = resolved(config)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    depths = [depth_of(name) for name, _ in model.named_parameters()]
    count = max((depth + 1 for depth in depths if depth is not None), default=0)
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        is_head = name.startswith("head.")
        depth = depth_of(name)
        if is_head:
            rate = config.head_learning_rate
        elif depth is not None:
            rate = config.learning_rate * config.layer_decay ** (count - 1 - depth)
        elif _EMBEDDING.search(f".{name}"):
            rate = config.learning_rate * config.layer_decay**count
        else:
            rate = config.learning_rate
        decay = 0.0 if _NO_DECAY.search(name) else config.weight_decay
        groups.setdefault((is_head, rate, decay), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "weight_decay": decay, "initial_lr": rate}
        for (_, rate, decay), parameters in sorted(groups.items(), key=lambda item: item[0][0])
    ]
    kind, defaults = optimizer_class(config)
    if "foreach" in config.optimizer_options:  # torch takes one of the two
        defaults.pop("fused", None)
    try:
        found: torch.optim.Optimizer = kind(
            settings, **{"lr": config.learning_rate, **defaults, **config.optimizer_options}
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"The optimizer {config.optimizer!r} refuses its options: {error}",
            where="training.optimizer_options in contlearn.toml",
            hint=f"It was given: {', '.join(sorted(config.optimizer_options)) or 'none'}.",
        ) from error
    return found


def optimizer_class(config: TrainingConfig) -> tuple[type[Any], dict[str, Any]]:
    """Find the optimizer's class, and the options it has by itself.

    Raises:
        ConfigError: When the name or the path is none.
    """
    known: dict[str, tuple[type[Any], dict[str, Any]]] = {
        # One kernel for all of a step: on a CPU 14 ms instead of 94 for 23 million parameters.
        "adamw": (torch.optim.AdamW, {"fused": True}),
        "sgd": (torch.optim.SGD, {"momentum": config.momentum}),
        "adafactor": (torch.optim.Adafactor, {}),
    }
    if config.optimizer in known:
        return known[config.optimizer]
    where = "training.optimizer in contlearn.toml"
    found = import_path(config.optimizer, where=where, known=tuple(known))
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ConfigError(
            f"{config.optimizer!r} is no optimizer of torch.",
            where=where,
            hint='Name a subclass of torch.optim.Optimizer, such as "torch.optim:NAdam".',
        )
    return found, {}


def import_path(path: str, *, where: str, known: Sequence[str]) -> Any:
    """Import what "package.module:name" names.

    Raises:
        ConfigError: When it is no path and no known name, or cannot be imported.
    """
    module, separator, name = path.partition(":")
    if not separator:
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
        raise ConfigError(
            f"{path!r} is not known.",
            where=where,
            hint=(f"Did you mean {near[0]!r}? " if near else "")
            + f"Known: {', '.join(known)}; or an import path such as package.module:name.",
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{path!r} cannot be imported: {error}.",
            where=where,
            hint="Install it into this environment, and check the spelling.",
        ) from error


def make_schedule(config: TrainingConfig, steps: int) -> Callable[[int], float]:
    """Give the share of the learning rate at each step: a rise, then the configured fall.

    A function of one's own, by import path, is called with the step and the number of steps.

    Raises:
        ConfigError: When the name or the path is none, or gives no number.
    """
    where = "training.scheduler in contlearn.toml"
    if config.scheduler in SCHEDULES:
        fall = SCHEDULES[config.scheduler]

        def factor(step: int) -> float:
            return rate_factor(step, steps=steps, warmup_ratio=config.warmup_ratio, fall=fall)

        return factor
    found = import_path(config.scheduler, where=where, known=tuple(SCHEDULES))
    try:
        float(found(0, max(steps, 1)))
    except Exception as error:
        raise ConfigError(
            f"{config.scheduler!r} does not give a number for a step and the number of steps: "
            f"{error}",
            where=where,
            hint="Write def schedule(step: int, steps: int) -> float.",
        ) from error
    return lambda step: float(found(step, max(steps, 1)))


# The share of the rate when a share of the way down is done.
SCHEDULES: Final[Mapping[str, Callable[[float], float]]] = {
    "linear": lambda done: max(0.02, 1.0 - done),
    "cosine": lambda done: max(0.02, 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))),
    "constant": lambda _done: 1.0,
    "square": lambda done: max(0.02, (1.0 - min(done, 1.0)) ** 2),
}


def rate_factor(
    step: int,
    *,
    steps: int,
    warmup_ratio: float,
    fall: Callable[[float], float] = SCHEDULES["linear"],
) -> float:
    """Give the share of the learning rate at a step: a linear rise, then a fall to 0.02.

    Example:
        >>> [round(rate_factor(s, steps=10, warmup_ratio=0.2), 2) for s in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.12]
    """
    rise = int(steps * warmup_ratio)
    if step < rise:
        return (step + 1) / rise
    return fall((step - rise) / max(1, steps - rise))
