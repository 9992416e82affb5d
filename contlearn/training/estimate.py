"""What a fit will cost, before it starts. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contlearn.config import ReplayConfig, TrainingConfig

__all__ = ["estimate_seconds", "speed_of"]

# Measured with the 6-layer, 384-wide encoder on two cores and short texts; used until a fit of the
# same workspace has been timed.
_TEXTS_PER_SECOND: Final = 35.0
# A pass that only reads features costs about a third of one that trains.
_READING: Final = 0.33
_START_SECONDS: Final = 10.0
# Strategies that look at no exemplar.
_ALONE: Final = frozenset({"naive", "from-scratch"})


def speed_of(notes: Mapping[str, Any]) -> float | None:
    """Give the texts per second that a former fit trained at, from its notes, if it trained."""
    facts = notes.get("fine_tuning") or {}
    seconds = float(facts.get("seconds") or 0.0)
    return float(facts["samples"]) / seconds if seconds > 0 and facts.get("samples") else None


def estimate_seconds(
    *,
    new_records: int,
    buffer_records: int,
    training: TrainingConfig,
    replay: ReplayConfig,
    history_records: int = 0,
    texts_per_second: float | None = None,
) -> float:
    """Forecast the seconds of a fit; its cost follows the new records and the replay budget.

    Args:
        new_records: Records of the experience.
        buffer_records: Exemplars in the buffer.
        training: Epochs, strategy.
        replay: How many exemplars an epoch shows.
        history_records: All earlier records, for a strategy that reads them; 0 for others.
        texts_per_second: From `speed_of`; a cautious default without it.
    Units: seconds.
    Example:
        >>> config = TrainingConfig(epochs=2)
        >>> estimate_seconds(new_records=350, buffer_records=700, training=config,
        ...     replay=ReplayConfig(ratio=0.5), texts_per_second=35.0)
        59.8
    """
    speed = texts_per_second or _TEXTS_PER_SECOND
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
    seconds = _START_SECONDS + (trained + _READING * read) / speed
    return seconds + _searching(training, seconds)


def _searching(training: TrainingConfig, seconds: float) -> float:
    """Give what a search costs at most: a training a trial; the winner is not trained again."""
    limit = 60 * training.search.minutes or float("inf")
    # A trial that began before the limit runs on.
    return min(max(training.search.trials - 1, 0) * seconds, limit + seconds)
