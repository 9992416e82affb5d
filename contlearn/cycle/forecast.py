"""What a cycle will cost, said before it starts: learnt from what former ones took here.

A cycle takes a frame that is always the same (starting, exporting, scoring, promoting) and a time
for each text that it trains on or reads. Both are taken from the cycles of this workspace; before
the first one has ended, nothing is known and nothing is said.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contlearn.catalog.cycles import CycleRow, list_cycles
from contlearn.catalog.records import count_records, counting_ids, experience_records
from contlearn.config import TrainingConfig
from contlearn.context import Context
from contlearn.papers.manifest import MANIFEST, read_manifest
from contlearn.training.estimate import Work, planned_work, with_search
from contlearn.training.state import buffered_ids
from contlearn.wording import span

__all__ = ["Forecast", "forecast_cycle"]

# So many cycles are looked at, and of the newest so many the median counts.
_LOOK_BACK: Final = 20
_TIMED: Final = 8
_MEDIAN_OF: Final = 3
# The least range, and the one after a single cycle, when nothing says how much they differ.
_LEAST_RANGE: Final = (0.8, 1.25)
_FIRST_RANGE: Final = (0.6, 1.8)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of a cycle with their range, and of one that would learn everything again.

    All are None while no cycle of this workspace was timed. `work` is what will be trained on and
    read; it is kept with the cycle, so that the next forecast learns from it.
    """

    work: Work
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    joint_seconds: float | None = None
    timed: int = 0

    @property
    def is_timed(self) -> bool:
        """Say whether it rests on anything."""
        return self.seconds is not None

    def to_json(self) -> dict[str, object]:
        """Give the fields of `update --json`."""
        numbers = {
            name: None if value is None else round(value, 1)
            for name, value in (
                ("seconds", self.seconds),
                ("low", self.low),
                ("high", self.high),
                ("joint_seconds", self.joint_seconds),
            )
        }
        return {**numbers, "is_timed": self.is_timed, "timed_updates": self.timed}

    def __str__(self) -> str:
        if self.seconds is None or self.low is None or self.high is None:
            return "how long it takes is unknown yet: no update was timed here"
        joint = "" if self.joint_seconds is None else span(self.joint_seconds)
        return (
            f"about {span(self.seconds)} ({span(self.low)} to {span(self.high)}); "
            f"joint would be about {joint}"
        )


@dataclass(frozen=True, slots=True)
class _Timed:
    """What a former cycle took: all in all, around its training, and training, for its work."""

    work: Work
    took: float
    training: float
    fitting: float

    @property
    def pace(self) -> float:
        """Seconds for each planned text that was trained on."""
        return self.fitting / self.work.trained if self.work.trained else 0.0

    @property
    def frame(self) -> float:
        """Seconds besides: what would have been spent on a single text, too."""
        read = self.work.reading * self.pace
        return max(self.took - self.training, 0.0) + max(self.training - self.fitting - read, 0.0)


def forecast_cycle(context: Context, *, strategy: str) -> Forecast:
    """Forecast the next cycle from the records that wait and from what former cycles took.

    Args:
        context: The opened workspace.
        strategy: The strategy's name.
    """
    training = context.config.training.with_strategy(strategy)
    with context.catalog.read() as connection:
        counts = count_records(connection)
        former = list_cycles(connection, _LOOK_BACK)
    buffered, history = 0, 0
    champion = context.registry.champion()
    if champion is not None:
        folder = context.workspace.versions / str(champion)
        manifest = read_manifest(folder / MANIFEST)
        kept = buffered_ids(folder / "state")
        with context.catalog.read() as connection:
            buffered = len(counting_ids(connection, context.catalog.ids, kept))
            history = sum(
                len(experience_records(connection, cycle, "train"))
                for cycle in manifest.lineage.experiences
            )

    def planned(config: TrainingConfig) -> Work:
        kind, options = context.manager.options(
            "strategy", config.strategy, config.strategy_options, where="--strategy"
        )
        return planned_work(
            kind(options),
            new_records=counts.pending - counts.suspected,
            buffer_records=buffered,
            training=config,
            replay=context.config.replay,
            history_records=history,
        )

    work = planned(training)
    timed = [found for row in former if (found := _timed(row)) is not None][:_TIMED]
    if not timed:
        return Forecast(work)
    joint = training.with_strategy("joint")
    seconds = _predict(timed, work, training)
    low, high = _range(timed)
    return Forecast(
        work,
        seconds,
        low * seconds,
        high * seconds,
        _predict(timed, planned(joint), joint),
        len(timed),
    )


def _timed(row: CycleRow) -> _Timed | None:
    """Give what a cycle took; None for one that failed, was interrupted, or was not timed."""
    numbers: Mapping[str, Any] = row.numbers or {}
    work, took, fit = numbers.get("planned"), numbers.get("took_seconds"), numbers.get("fit")
    if row.outcome in (None, "failed") or row.attempts != 1 or not work or not took:
        return None
    # A search trains a few times; what it costs is put on top of one training.
    times = max(int((numbers.get("search") or {}).get("trials", 1)), 1)
    whole = float(numbers.get("seconds", {}).get("training", 0.0))
    training = whole / times
    fitting = min(float((fit or {}).get("seconds") or 0.0), training)
    return _Timed(Work(**work), float(took) - (whole - training), training, fitting)


def _predict(timed: Sequence[_Timed], work: Work, training: TrainingConfig | None = None) -> float:
    """Give the seconds of a work from cycles, the newest first, and of the search on top."""
    newest = timed[:_MEDIAN_OF]
    frame = statistics.median(one.frame for one in newest)
    paces = [one.pace for one in newest if one.pace > 0]
    pace = statistics.median(paces) if paces else 0.0
    fit = pace * (work.trained + work.reading)
    return frame + (fit if training is None else with_search(training, fit))


def _range(timed: Sequence[_Timed]) -> tuple[float, float]:
    """Say how far forecasts were off: the least and largest share of what they had said."""
    if len(timed) == 1:
        return _FIRST_RANGE
    shares = [
        one.took / _predict(timed[place + 1 :], one.work) for place, one in enumerate(timed[:-1])
    ]
    return min(*shares, _LEAST_RANGE[0]), max(*shares, _LEAST_RANGE[1])
