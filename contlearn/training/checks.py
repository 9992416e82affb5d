"""What can be said of [training] and [replay] before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from contlearn.config import ReplayConfig, TrainingConfig
from contlearn.errors import PluginError
from contlearn.interfaces import PRIORITIES, Task
from contlearn.plugins.manager import PluginManager, require_given

__all__ = ["check_buffer", "check_learners", "check_method", "check_training"]


def check_training(training: TrainingConfig) -> None:
    """Check the method, and that what is named by import path is there; warn of a high rate.

    Raises:
        ConfigError: When an optimizer, a schedule or an augmentation cannot be imported, or the
            method is not known or refuses an option.
    """
    from contlearn.training.optim import import_path, make_schedule, optimizer_class, warn_of_rate

    check_method(training.method, training.method_options)
    optimizer_class(training)
    make_schedule(training, 100)
    for name in training.augmentation.operations:
        if ":" in name:
            import_path(name, where="training.augmentation.operations in contlearn.toml", known=())
    warn_of_rate(training)


def check_learners(training: TrainingConfig, task: Task, manager: PluginManager) -> None:
    """Check the strategy and the regularisers: names, options, and what they need of the task.

    Raises:
        PluginError: For a name or an option that is not known.
        ConfigError: When the task does not give what one of them needs.
    """
    kind, _ = manager.options(
        "strategy", training.strategy, training.strategy_options, where="training.strategy"
    )
    require_given(task, kind, where="training.strategy")
    for number, item in enumerate(training.regularizers):
        options, where = item.model_dump(exclude={"name"}), f"training.regularizers[{number}]"
        kind, _ = manager.options("regularizer", item.name, options, where=where)
        require_given(task, kind, where=where)


def check_buffer(replay: ReplayConfig, task: Task, manager: PluginManager) -> None:
    """Check the replay buffer: its name, what it asks the model, and what that needs of the task.

    Raises:
        PluginError: When there is no such buffer, or it asks for what is not known.
        ConfigError: When the task does not give what it needs.
    """
    kind = manager.get("buffer", replay.policy, where="replay.policy")
    priority = getattr(kind, "priority", "")
    if priority and priority not in PRIORITIES:
        raise PluginError(
            f"The replay buffer {replay.policy!r} asks for the priority {priority!r}, which is "
            "not known.",
            where=kind.__module__,
            hint=f"Known: {', '.join(PRIORITIES)}; or leave `priority` out.",
        )
    more = frozenset({PRIORITIES[priority]}) if priority else frozenset[str]()
    require_given(task, kind, where="replay.policy", more=more)


def check_method(name: str, options: Mapping[str, object]) -> None:
    """Check a training method and its options.

    Raises:
        ConfigError: When there is no such method, or an option is wrong.
    """
    from contlearn.training.methods import make_method

    make_method(name, options)
