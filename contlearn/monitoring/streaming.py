"""Streaming detectors on labelled errors: ADWIN, DDM and Page-Hinkley from river.

They watch one thing, whether the share of wrong answers rises, and need no window. Their own
defaults alarm by chance far more often than one time in a hundred (measured: tests/benchmarks), so
each runs with a limit that 1,300 errors at a constant rate cross about once in a hundred runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["MIN_ERRORS", "STREAMS", "StreamFinding", "watch_errors"]

STREAMS: Final = ("adwin", "ddm", "page-hinkley")
MIN_ERRORS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFinding:
    """What one streaming detector saw; `at` is the place of the newest alarm."""

    detector: str
    detected: bool
    at: int | None
    rate: float


def watch_errors(
    errors: Sequence[bool], *, recent: int | None = None, names: Sequence[str] = STREAMS
) -> list[StreamFinding]:
    """Run the streaming detectors over errors in the order of time.

    Args:
        errors: True where the answer was wrong, oldest first.
        recent: An alarm counts as present in the newest so many; all if left out.
        names: Which detectors.
    Returns:
        One finding a detector; nothing when river is not installed or there are fewer than 60.
    """
    if len(errors) < MIN_ERRORS:
        return []
    try:
        detectors = {name: _make(name) for name in names}
    except ImportError:
        return []
    first = 0 if recent is None else max(0, len(errors) - recent)
    findings = []
    for name, detector in detectors.items():
        alarm = None
        for place, wrong in enumerate(errors):
            detector.update(bool(wrong) if name == "ddm" else float(wrong))
            if detector.drift_detected and _rose(errors, place):
                alarm = place
        findings.append(
            StreamFinding(
                detector=name,
                detected=alarm is not None and alarm >= first,
                at=alarm,
                rate=sum(errors[first:]) / max(1, len(errors) - first),
            )
        )
    return findings


def _rose(errors: Sequence[bool], place: int) -> bool:
    """Say whether errors became more, not fewer: only that is news of the kind that wakes."""
    now = errors[max(0, place - 49) : place + 1]
    before = errors[: max(1, place - 49)]
    return sum(now) / len(now) > sum(before) / len(before)


def _make(name: str) -> Any:
    drift: Any = importlib.import_module("river.drift")
    binary: Any = importlib.import_module("river.drift.binary")
    if name == "adwin":
        return drift.ADWIN(delta=0.002, clock=8)
    if name == "ddm":
        return binary.DDM(warm_start=100, warning_threshold=3.0, drift_threshold=4.0)
    if name == "page-hinkley":
        return drift.PageHinkley(min_instances=60, delta=0.02, threshold=26.0, mode="up")
    raise ValueError(f"there is no streaming detector {name!r}")
