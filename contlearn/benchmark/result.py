"""What came out of a comparison: rows, a summary for each strategy, a recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contlearn.benchmark.measures import FIGURES, titles

__all__ = ["BenchmarkResult", "Summary", "cell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One line of the table: means over seeds, and the spread of the accuracy."""

    name: str
    seeds: int
    is_reference: bool
    means: Mapping[str, float | None]
    spread: float | None
    dev_accuracy: float
    curve: tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """What came out: all rows, one summary a strategy, a recommendation with its reason."""

    rows: tuple[Mapping[str, Any], ...]
    summaries: tuple[Summary, ...]
    recommendation: str
    reason: str
    folder: Path
    steps: tuple[str, ...] = field(default=())
    primary_metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "recommendation": self.recommendation,
            "reason": self.reason,
            "experiences": list(self.steps),
            "primary_metric": self.primary_metric,
            "strategies": [
                {
                    "name": s.name,
                    "seeds": s.seeds,
                    "is_reference": s.is_reference,
                    **s.means,
                    "average_accuracy_spread": s.spread,
                    "dev_accuracy": s.dev_accuracy,
                    "curve": list(s.curve) if s.curve else None,
                }
                for s in self.summaries
            ],
            "rows": [dict(row) for row in self.rows],
            "folder": str(self.folder),
        }

    def table(self) -> str:
        """Write the summaries as a Markdown table."""
        heads = ["strategy", *titles(self.primary_metric), "seeds"]
        lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
        for summary in self.summaries:
            cells = [summary.name + (" (reference)" if summary.is_reference else "")]
            cells += [cell(summary, figure) for figure in FIGURES]
            lines.append("| " + " | ".join([*cells, str(summary.seeds)]) + " |")
        return "\n".join(lines)


def cell(summary: Summary, figure: str) -> str:
    """Write one figure as people read it."""
    value = summary.means.get(figure)
    if value is None:
        return "–"
    if figure == "peak_bytes":
        return f"{value / 1e6:.0f} MB"
    if figure == "seconds":
        return f"{value:.0f}"
    spread = summary.spread
    with_spread = figure == "average_accuracy" and spread is not None
    return f"{100 * value:.1f}" + (f"±{100 * spread:.1f}" if with_spread and spread else "")
