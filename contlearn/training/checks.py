"""What can be said of [training] before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from contlearn.config import TrainingConfig

__all__ = ["check_method", "check_training"]


def check_training(training: TrainingConfig) -> None:
    """Check the method, and that what is named by import path is there.

    Raises:
        ConfigError: When an optimizer, a schedule or an augmentation cannot be imported, or the
            method is not known or refuses an option.
    """
    from contlearn.training.optim import import_path, make_schedule, optimizer_class

    check_method(training.method, training.method_options)
    optimizer_class(training)
    make_schedule(training, 100)
    for name in training.augmentation.operations:
        if ":" in name:
            import_path(name, where="training.augmentation.operations in contlearn.toml", known=())


def check_method(name: str, options: Mapping[str, object]) -> None:
    """Check a training method and its options.

    Raises:
        ConfigError: When there is no such method, or an option is wrong.
    """
    from contlearn.training.methods import make_method

    make_method(name, options)
