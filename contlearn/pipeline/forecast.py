"""What a cycle will cost, said before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contlearn.catalog.cycles import get_cycle
from contlearn.catalog.records import count_records, counting_ids, experience_records
from contlearn.pipeline.context import Context
from contlearn.training.estimate import estimate_seconds, speed_of
from contlearn.training.state import buffered_ids
from contlearn.workspace import read_json

__all__ = ["Forecast", "forecast_cycle", "in_words"]

# Export, scores and decision of a first cycle, until one has been timed.
_REST_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of a cycle, and of one that would learn everything again."""

    seconds: float
    joint_seconds: float
    is_timed: bool

    def to_json(self) -> dict[str, object]:
        """Give the fields of `update --json`."""
        return {
            "seconds": round(self.seconds, 1),
            "joint_seconds": round(self.joint_seconds, 1),
            "is_timed": self.is_timed,
        }

    def __str__(self) -> str:
        basis = "" if self.is_timed else " (nothing was timed here yet)"
        return (
            f"about {in_words(self.seconds)}; joint would be about "
            f"{in_words(self.joint_seconds)}{basis}"
        )


def forecast_cycle(context: Context, *, strategy: str) -> Forecast:
    """Forecast the next cycle from the records that wait and from what the champion's cost.

    Args:
        context: The opened workspace.
        strategy: The strategy's name.
    """
    training = context.config.training.with_strategy(strategy)
    reads_history = context.manager.get("strategy", strategy, where="--strategy").reads_history
    with context.catalog.read() as connection:
        counts = count_records(connection)
    speed, rest, buffered, history = None, _REST_SECONDS, 0, 0
    champion = context.registry.champion()
    if champion is not None:
        folder = context.workspace.versions / str(champion)
        manifest: dict[str, Any] = read_json(folder / "manifest.json")
        speed = speed_of(manifest.get("training", {}).get("notes") or {})
        kept = buffered_ids(folder / "state")
        with context.catalog.read() as connection:
            buffered = len(counting_ids(connection, context.catalog.ids, kept))
            lineage = manifest["lineage"]
            history = sum(
                len(experience_records(connection, cycle, "train"))
                for cycle in lineage["experiences"]
            )
            row = get_cycle(connection, lineage["cycle"])
        stages = (row.numbers or {}).get("seconds", {}) if row is not None else {}
        if stages:
            rest = sum(float(value) for name, value in stages.items() if name != "training")
    joint = training.with_strategy("joint")

    def seconds(config: Any, *, everything: bool) -> float:
        return rest + estimate_seconds(
            new_records=counts.pending,
            buffer_records=buffered,
            training=config,
            replay=context.config.replay,
            history_records=history if everything else 0,
            texts_per_second=speed,
        )

    return Forecast(
        seconds=seconds(training, everything=reads_history),
        joint_seconds=seconds(joint, everything=True),
        is_timed=speed is not None,
    )


def in_words(seconds: float) -> str:
    """Say a span of time as people do.

    Example:
        >>> in_words(42), in_words(250), in_words(7500)
        ('42 s', '4 min', '2.1 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
