"""The measures of a task, by their names."""

from __future__ import annotations

from contlearn.errors import ConfigError
from contlearn.interfaces import Task
from contlearn.types import Metric

__all__ = ["metric_named"]


def metric_named(task: Task, name: str) -> Metric:
    """Give what a task says of one of its measures.

    Raises:
        ConfigError: When it has none of this name.
    """
    for metric in task.metrics:
        if metric.name == name:
            return metric
    raise ConfigError(
        f"The task {task.name!r} has no metric {name!r}.",
        where="gate.metric in contlearn.toml",
        hint=f"Choose one of: {', '.join(metric.name for metric in task.metrics)}.",
    )
