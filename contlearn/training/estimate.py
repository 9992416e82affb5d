"""What a fit has to do, before it starts. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contlearn.config import ReplayConfig, TrainingConfig

if TYPE_CHECKING:
    from contlearn.training.strategies.base import LearningStrategy

__all__ = ["Work", "planned_work", "with_search"]

# A pass that only reads features costs about a third of one that trains.
_READING: Final = 0.33


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
    strategy: LearningStrategy,
    *,
    new_records: int,
    buffer_records: int,
    training: TrainingConfig,
    replay: ReplayConfig,
    history_records: int = 0,
) -> Work:
    """Say what a fit will do; it follows the new records and the replay budget.

    Args:
        strategy: With its options; it says what it shows and whether it trains.
        new_records: Records of the experience.
        buffer_records: Exemplars in the buffer.
        training: Epochs.
        replay: How many exemplars an epoch shows.
        history_records: All earlier records; only a strategy that reads them learns them.
    Example:
        >>> from contlearn.training.strategies.replay import Replay
        >>> config = TrainingConfig(epochs=2)
        >>> planned_work(Replay(Replay.Options()), new_records=350, buffer_records=700,
        ...     training=config, replay=ReplayConfig(ratio=0.5))
        Work(trained=1050, read=2100)
    """
    learnt, shown = new_records, 0
    if strategy.reads_history:
        # Exemplars are among the history.
        learnt, buffer_records = new_records + history_records, 0
    elif not getattr(strategy, "shows_exemplars", True):
        buffer_records = 0
    elif getattr(strategy, "begins_again", False):
        # Nothing is drawn from a buffer that belongs to another model: exemplars are learnt anew.
        learnt, buffer_records = new_records + buffer_records, 0
    else:
        shown = min(round(replay.ratio * new_records), buffer_records * training.epochs)
    read = learnt + buffer_records
    if not getattr(strategy, "fine_tunes", True):
        return Work(0, read)
    return Work(training.epochs * (learnt + shown), 2 * read)


def with_search(training: TrainingConfig, seconds: float) -> float:
    """Add what a search costs at most: a training a trial; the winner is not trained again."""
    limit = 60 * training.search.minutes or float("inf")
    # A trial that began before the limit runs on.
    return seconds + min(max(training.search.trials - 1, 0) * seconds, limit + seconds)
