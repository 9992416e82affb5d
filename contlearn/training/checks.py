"""What can be said of [training] before a model is loaded."""

from __future__ import annotations

from contlearn.config import TrainingConfig

__all__ = ["check_training"]


def check_training(training: TrainingConfig) -> None:
    """Check that what is named by import path is there.

    Raises:
        ConfigError: When an optimizer, a schedule or an augmentation cannot be imported.
    """
    from contlearn.training.optim import import_path, make_schedule, optimizer_class

    optimizer_class(training)
    make_schedule(training, 100)
    for name in training.augmentation.operations:
        if ":" in name:
            import_path(name, where="training.augmentation.operations in contlearn.toml", known=())
