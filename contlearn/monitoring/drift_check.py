"""Drift now: every detector over a window of the prediction log, corrected, and put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from contlearn.errors import EvaluationError
from contlearn.monitoring.detectors import (
    ClassifierTest,
    Detector,
    Finding,
    KernelTest,
    KolmogorovSmirnov,
    LabelShares,
    Sample,
)
from contlearn.monitoring.prediction_log import read_predictions
from contlearn.monitoring.shares import compare_shares

__all__ = ["DriftCheck", "DriftReport", "check_log", "sample_of"]

MIN_RECORDS: Final = 100
# The columns that are compared one by one, and what a change of each is a change of.
_NUMBERS: Final = {
    "characters": "input",
    "unknown_ratio": "input",
    "confidence": "prediction",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What all detectors found, corrected for their number.

    `adjusted` are Holm's p-values in the order of `findings`; `detected` when one is at most
    `level`, so that all detectors together alarm in one window of 1 / level without drift.
    """

    findings: tuple[Finding, ...]
    adjusted: tuple[float, ...]
    level: float
    detected: bool
    severity: str
    reference_records: int
    window_records: int
    explanation: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain values."""
        return {
            "detected": self.detected,
            "severity": self.severity,
            "level": self.level,
            "reference_records": self.reference_records,
            "window_records": self.window_records,
            "detectors": [
                {
                    "detector": finding.detector,
                    "target": finding.target,
                    "statistic": finding.statistic,
                    "p_value": finding.p_value,
                    "adjusted_p_value": adjusted,
                    "detected": adjusted <= self.level,
                }
                for finding, adjusted in zip(self.findings, self.adjusted, strict=True)
            ],
            "explanation": list(self.explanation),
        }


class DriftCheck:
    """All detectors with one reference; windows are judged against it.

    Args:
        reference: Predictions of the version when all was well.
        level: False alarms of all detectors together, in windows without drift.
        seed: Of the permutations.
    Raises:
        EvaluationError: With too few records.
    """

    def __init__(self, reference: Sample, *, level: float = 0.01, seed: int = 17) -> None:
        _need(len(reference), "reference")
        self.level = level
        self.reference = reference
        detectors: list[Detector] = [LabelShares(reference)]
        if reference.projections.size:
            detectors += [KernelTest(reference, seed=seed), ClassifierTest(reference, seed=seed)]
        detectors += [
            KolmogorovSmirnov(reference, column, target=target)
            for column, target in _NUMBERS.items()
            if column in reference.numbers
        ]
        self.detectors = tuple(detectors)

    def judge(self, window: Sample) -> DriftReport:
        """Judge one window.

        Raises:
            EvaluationError: With too few records.
        """
        _need(len(window), "window")
        findings = tuple(detector.judge(window) for detector in self.detectors)
        adjusted = holm([finding.p_value for finding in findings])
        detected = min(adjusted) <= self.level
        return DriftReport(
            findings=findings,
            adjusted=tuple(adjusted),
            level=self.level,
            detected=detected,
            severity=_severity(findings, adjusted, self.level),
            reference_records=len(self.reference),
            window_records=len(window),
            explanation=tuple(_explain(self.reference, window, findings, adjusted, self.level)),
        )


def sample_of(lines: Iterable[Mapping[str, Any]]) -> Sample:
    """Make columns of lines of the prediction log; a column that some lines lack is left out."""
    rows = list(lines)
    projections = [row.get("projection") for row in rows]
    complete = bool(rows) and all(isinstance(p, list) and p for p in projections)
    numbers = {
        column: np.array([row[column] for row in rows], dtype=np.float64)
        for column in _NUMBERS
        if rows and all(isinstance(row.get(column), int | float) for row in rows)
    }
    return Sample(
        projections=np.array(projections, dtype=np.float64) if complete else np.zeros((0, 0)),
        numbers=numbers,
        labels=["+".join(sorted(row.get("labels", ()))) or "O" for row in rows],
    )


def check_log(
    folder: Path, *, window: int = 500, reference: int = 2_000, level: float = 0.01
) -> DriftReport:
    """Compare the newest predictions of the newest version with its first ones.

    Args:
        folder: state/predictions.
        window: Predictions judged.
        reference: Predictions of the same version they are compared with, the oldest there are.
        level: False alarms of all detectors together.
    Raises:
        EvaluationError: When the version has not answered enough yet.
    """
    lines: list[dict[str, Any]] = []
    for line in read_predictions(folder):
        if lines and line.get("version") != lines[0].get("version"):
            break
        lines.append(line)
    if len(lines) < 2 * MIN_RECORDS:
        raise EvaluationError(
            f"The version has {len(lines)} logged predictions; {2 * MIN_RECORDS} are needed.",
            where=str(folder),
            hint="Wait until it has answered more, with monitoring.log_predictions on.",
        )
    lines.reverse()  # oldest first
    size = min(window, len(lines) // 2)
    first = lines[: len(lines) - size][:reference]
    return DriftCheck(sample_of(first), level=level).judge(sample_of(lines[-size:]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the rate of any false alarm stays at the level.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, (len(order) - rank) * p_values[place])
        adjusted[place] = min(1.0, largest)
    return adjusted


def _need(count: int, what: str) -> None:
    if count < MIN_RECORDS:
        raise EvaluationError(
            f"The {what} has {count} predictions; {MIN_RECORDS} are needed.",
            where="drift",
            hint="Choose a longer window, or wait.",
        )


def _severity(findings: Sequence[Finding], adjusted: Sequence[float], level: float) -> str:
    """Say how large a change is, not how sure: p-values shrink with the window alone."""
    size = 0.0
    for finding, p_value in zip(findings, adjusted, strict=True):
        if p_value > level:
            continue
        size = max(size, _EFFECTS.get(finding.detector.partition(":")[0], _no_size)(finding))
    return "none" if min(adjusted) > level else "strong" if size >= 1 else "moderate"


def _no_size(_: Finding) -> float:
    return 0.0


# What counts as strong: an index of 0.25, half of all cumulated mass moved by a quarter, or a
# classifier that ranks three of four pairs right.
_EFFECTS: Final = {
    "psi": lambda finding: finding.statistic / 0.25,
    "kolmogorov-smirnov": lambda finding: finding.statistic / 0.25,
    "classifier": lambda finding: (finding.statistic - 0.5) / 0.25,
}


def _explain(
    reference: Sample,
    window: Sample,
    findings: Sequence[Finding],
    adjusted: Sequence[float],
    level: float,
) -> Iterable[str]:
    for finding, p_value in zip(findings, adjusted, strict=True):
        if p_value > level:
            continue
        name, _, column = finding.detector.partition(":")
        if name == "psi":
            moved = compare_shares(Counter(reference.labels), Counter(window.labels), chance=0.0)
            changes = ", ".join(f"{m[0]} {m[1]:.0%} → {m[2]:.0%}" for m in moved.moved[:3])
            yield f"The predicted labels moved: {changes}."
        elif column:
            before = float(np.median(reference.numbers[column]))
            now = float(np.median(window.numbers[column]))
            words = {
                "characters": "length of the texts in characters",
                "unknown_ratio": "share of pieces the vocabulary does not hold",
                "confidence": "confidence",
            }
            yield f"The {words[column]} moved: median {before:.3g} → {now:.3g}."
        elif name == "classifier":
            yield (
                "The texts themselves differ: a classifier tells new from old ones in "
                f"{finding.statistic:.0%} of pairs (50% is chance)."
            )
        else:
            yield "The embeddings of the texts are distributed in another way."
