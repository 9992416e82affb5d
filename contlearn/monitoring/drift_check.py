"""All detectors over one window, their p-values combined, and the result put into words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from contlearn.errors import ContlearnError, EvaluationError
from contlearn.monitoring.detectors import Detector, Finding, Nulls
from contlearn.monitoring.input_detectors import (
    ClassifierTest,
    Fragmentation,
    KernelTest,
    Languages,
    Lengths,
    NeighbourDistance,
    NewWords,
    UnknownPieces,
)
from contlearn.monitoring.prediction_detectors import (
    ConditionalConfidence,
    Confidence,
    Energy,
    LabelChiSquare,
    LabelDivergence,
    LabelLift,
    LabelPsi,
)
from contlearn.monitoring.sample import Sample
from contlearn.statistics.several import cauchy, holm

__all__ = ["DETECTORS", "MIN_RECORDS", "DriftCheck", "DriftReport"]

T = TypeVar("T")

MIN_RECORDS: Final = 100
DETECTORS: Final[tuple[type[Any], ...]] = (
    LabelPsi,
    LabelChiSquare,
    LabelDivergence,
    LabelLift,
    Confidence,
    Energy,
    ConditionalConfidence,
    KernelTest,
    ClassifierTest,
    NeighbourDistance,
    Lengths,
    UnknownPieces,
    Fragmentation,
    Languages,
    NewWords,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What all detectors found, corrected for their number.

    `adjusted` are Holm's p-values in the order of `findings`. `p_value` is that of all detectors
    together; `detected` when it is at most `level`, so that they alarm together in one window of
    1 / level without drift.
    """

    findings: tuple[Finding, ...]
    adjusted: tuple[float, ...]
    p_value: float
    level: float
    detected: bool
    severity: str
    reference_records: int
    window_records: int
    explanation: tuple[str, ...]

    @property
    def alarming(self) -> tuple[str, ...]:
        """Name the detectors that alarm, the surest first; with an alarm there is at least one."""
        ranked = sorted(zip(self.adjusted, self.findings, strict=True), key=lambda item: item[0])
        named = [f.detector for p, f in ranked if p <= self.level]
        return tuple(named or [ranked[0][1].detector]) if self.detected else ()

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain values."""
        return {
            "detected": self.detected,
            "severity": self.severity,
            "p_value": self.p_value,
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
        detectors: Classes to use; those whose columns are missing are left out.
        nulls: What chance reaches, precomputed by an earlier check of this reference; filled here.
    Raises:
        EvaluationError: With too few records.

    A detector that fails is left out from then on; `failed` says which, and why.
    """

    def __init__(
        self,
        reference: Sample,
        *,
        level: float = 0.01,
        seed: int = 17,
        detectors: Sequence[type[Any]] = DETECTORS,
        nulls: Nulls | None = None,
    ) -> None:
        _need(len(reference), "reference")
        self.level = level
        self.reference = reference
        self.nulls: Nulls = {} if nulls is None else nulls
        self.failed: dict[str, str] = {}
        self.detectors: tuple[Detector, ...] = tuple(
            made
            for kind in detectors
            if all(reference.has(column) for column in kind.needs)
            and (made := self._try(kind.name, kind, reference, nulls=self.nulls, seed=seed))
        )

    def judge(self, window: Sample) -> DriftReport:
        """Judge one window.

        Raises:
            EvaluationError: With too few records.
        """
        _need(len(window), "window")
        pairs = [
            (detector, finding)
            for detector in self.detectors
            if all(window.has(column) for column in detector.needs)
            and (finding := self._try(detector.name, _judged, detector, window))
        ]
        findings = tuple(finding for _, finding in pairs)
        if self.failed and not findings:
            raise EvaluationError(
                "Every detector failed: "
                + "; ".join(f"{name}: {why}" for name, why in self.failed.items())
                + ".",
                where="monitoring.detectors",
                hint="Name detectors that work in monitoring.detectors of contlearn.toml.",
            )
        adjusted = holm([finding.p_value for finding in findings])
        together = cauchy([finding.p_value for finding in findings])
        detected = together <= self.level
        report = DriftReport(
            findings=findings,
            adjusted=tuple(adjusted),
            p_value=together,
            level=self.level,
            detected=detected,
            severity="none",
            reference_records=len(self.reference),
            window_records=len(window),
            explanation=(),
        )
        if not detected:
            return report
        alarming = set(report.alarming)
        pairs = [(detector, finding) for detector, finding in pairs if finding.detector in alarming]
        effect = max(finding.effect for _, finding in pairs)
        said = dict.fromkeys(
            self._try(detector.name, detector.explain, window, finding)
            for detector, finding in pairs
        )
        return replace(
            report,
            severity="strong" if effect >= 1 else "moderate",
            explanation=tuple(text for text in said if text),
        )

    def _try(self, name: str, work: Callable[..., T], *values: object, **named: object) -> T | None:
        """Let a detector work; None when it fails, which stands in no other's way."""
        if name in self.failed:
            return None
        try:
            return work(*values, **named)
        except ContlearnError:
            raise
        except Exception as error:
            self.failed[name] = f"it failed: {type(error).__name__}: {error}"
            logging.getLogger("contlearn.monitoring").exception(
                "detector failed", extra={"detector": name}
            )
            return None

    def detector(self, name: str) -> Detector | None:
        """Give one of its detectors; None when it is left out."""
        return next((item for item in self.detectors if item.name == name), None)


def _judged(detector: Detector, window: Sample) -> Finding:
    found = detector.judge(window)
    if not isinstance(found, Finding):
        raise TypeError(f"judge gave {type(found).__name__}, not a Finding")
    return found


def _need(count: int, what: str) -> None:
    if count < MIN_RECORDS:
        raise EvaluationError(
            f"The {what} has {count} predictions; {MIN_RECORDS} are needed.",
            where="drift",
            hint="Choose a longer window, or wait.",
        )
