"""Parameter groups, freezing, optimizers and the learning rate over time."""

from __future__ import annotations

import re
import warnings
from typing import Any, Final

import torch
from torch import nn

from contlearn.config import TrainingConfig
from contlearn.errors import TrainingError

__all__ = ["LearningRateWarning", "check_rate", "freeze", "make_optimizer", "rate_factor"]

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")
_EMBEDDING: Final = re.compile(r"(?:^|\.)(?:embeddings?|wte|wpe|embed_tokens)\.")
_NO_DECAY: Final = re.compile(r"(?:^|\.)bias$|norm", re.IGNORECASE)
_HIGH_RATE: Final = 1e-4


class LearningRateWarning(UserWarning):
    """The learning rate is one that is known to destroy what an encoder knows."""


def check_rate(config: TrainingConfig) -> str | None:
    """Say what is wrong with the learning rate for full fine-tuning, if something is.

    Source: the published collapse of sequential fine-tuning at 1e-3 against 3e-5 (FIELD 1).
    """
    if config.method == "full" and config.learning_rate >= _HIGH_RATE:
        message = (
            f"training.learning_rate = {config.learning_rate:g} is high for full fine-tuning: "
            f"from {_HIGH_RATE:g} on, encoders forget what they were pretrained on. "
            'Use 1e-5 to 5e-5, or training.method = "lora".'
        )
        warnings.warn(message, LearningRateWarning, stacklevel=2)
        return message
    return None


def depth_of(name: str) -> int | None:
    """Give the layer that a parameter belongs to, or None for one outside the layers."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


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


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Group what is trained by rate and decay, the head last, and make the optimizer.

    Layer i of n learns with rate · decay^(n - 1 - i), embeddings with one factor more. Biases and
    normalisations are not decayed. The head stands last, because new rows join the last group.
    """
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
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=config.learning_rate, momentum=config.momentum)
    return torch.optim.AdamW(settings, lr=config.learning_rate)


def rate_factor(step: int, *, steps: int, warmup_ratio: float) -> float:
    """Give the share of the learning rate at a step: a linear rise, then a linear fall to 0.02.

    Example:
        >>> [round(rate_factor(s, steps=10, warmup_ratio=0.2), 2) for s in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.12]
    """
    rise = int(steps * warmup_ratio)
    if step < rise:
        return (step + 1) / rise
    return max(0.02, 1.0 - (step - rise) / max(1, steps - rise))
