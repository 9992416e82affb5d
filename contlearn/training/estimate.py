"""What a fit has to do, before it starts. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contlearn.config import ReplayConfig, TrainingConfig

__all__ = ["Work", "planned_work", "with_search"]

# A pass that only reads features costs about a third of one that trains.
_READING: Final = 0.33
# Strategies that look at no exemplar.
_ALONE: Final = frozenset({"naive", "from-scratch"})


@dataclass(frozen=True, slots=True)
class Work:
    """How many texts a fit trains on and how many it only reads, each as often as it is shown."""

    trained: int
    read: int

    @property
    def reading(self) -> float:
        """What is read, as texts that would be trained on in the same time."""
        return _READING * self.read


def planned_work(
    *,
    new_records: int,
    buffer_records: int,
    training: TrainingConfig,
    replay: ReplayConfig,
    history_records: int = 0,
) -> Work:
    """Say what a fit will do; it follows the new records and the replay budget.

    Args:
        new_records: Records of the experience.
        buffer_records: Exemplars in the buffer.
        training: Epochs, strategy.
        replay: How many exemplars an epoch shows.
        history_records: All earlier records, for a strategy that reads them; 0 for others.
    Example:
        >>> config = TrainingConfig(epochs=2)
        >>> planned_work(new_records=350, buffer_records=700, training=config,
        ...     replay=ReplayConfig(ratio=0.5))
        Work(trained=1050, read=2100)
    """
    learnt = new_records + history_records
    shown = min(round(replay.ratio * new_records), buffer_records * training.epochs)
    if training.strategy in _ALONE:
        shown = buffer_records = 0
    elif training.strategy == "gdumb":
        learnt, shown = new_records + buffer_records, 0
    trained = training.epochs * (learnt + (0 if history_records else shown))
    read = 2 * (learnt + (0 if history_records else buffer_records))
    if training.strategy_options.get("fine_tune") == "never":
        trained, read = 0, read // 2
    return Work(trained, read)


def with_search(training: TrainingConfig, seconds: float) -> float:
    """Add what a search costs at most: a training a trial; the winner is not trained again."""
    limit = 60 * training.search.minutes or float("inf")
    # A trial that began before the limit runs on.
    return seconds + min(max(training.search.trials - 1, 0) * seconds, limit + seconds)
