"""What an update says of itself when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contlearn.errors import ContlearnError
from contlearn.types import CycleOutcome, RuleOutcome

__all__ = ["UpdateResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What `update` says: the outcome, the gate's reasons, the challenger's measures."""

    cycle: str | None
    outcome: CycleOutcome
    version: int | None = None
    reasons: tuple[Mapping[str, Any], ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""
    resumed: bool = False
    error: ContlearnError | None = None
    held: int = 0
    suspected: int = 0
    forecast: Mapping[str, object] | None = None
    trained_share: float | None = None
    search: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    doubted: Mapping[str, Any] | None = None
    run_key: str | None = None
    repeated: bool = False
    # The measure whose mean over experiences `average_accuracy` is.
    primary_metric: str = "accuracy"
    # Those that are no shares.
    measures: Mapping[str, Any] = field(default_factory=dict)
    # Files of the inbox that were refused whole before it began, with the reasons.
    refused_files: tuple[Mapping[str, Any], ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when done or kept, 3 when the gate refused, else the error's code."""
        if self.outcome == "failed":
            return self.error.exit_code if self.error is not None else 1
        return 3 if self.outcome == "refused" else 0

    @property
    def refusals(self) -> tuple[RuleOutcome, ...]:
        """Give what spoke against the challenger."""
        outcomes = map(RuleOutcome.from_json, self.reasons)
        return tuple(outcome for outcome in outcomes if outcome.refuses)

    def to_json(self) -> dict[str, object]:
        """Give the fields of `update --json`."""
        value: dict[str, object] = {
            "cycle": self.cycle,
            "outcome": self.outcome,
            "version": self.version,
            "reasons": [dict(reason) for reason in self.reasons],
            "metrics": dict(self.metrics),
            "seconds": round(self.seconds, 3),
            "message": self.message,
            "resumed": self.resumed,
            "forecast": dict(self.forecast) if self.forecast else None,
            "trained_share": self.trained_share,
            "search": dict(self.search) if self.search else None,
            "warnings": list(self.warnings),
            "doubted": dict(self.doubted) if self.doubted else None,
            "run_key": self.run_key,
            "repeated": self.repeated,
            "primary_metric": self.primary_metric,
            "refused_files": [dict(file) for file in self.refused_files],
        }
        if self.measures:
            value["measures"] = dict(self.measures)
        if self.error is not None:
            value["error"] = self.error.to_json()
        return value
