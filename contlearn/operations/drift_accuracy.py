"""The accuracy of a window of the prediction log: estimated, and measured as labels come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from contlearn.context import Context
from contlearn.errors import ContlearnError
from contlearn.monitoring.feedback_log import join_feedback, read_feedback, resolved_labels

if TYPE_CHECKING:
    from contlearn.monitoring.accuracy import Calibration, Interval
    from contlearn.monitoring.drift_check import DriftReport
    from contlearn.monitoring.streaming import StreamFinding

__all__ = ["calibration_of", "look_at_accuracy"]


def calibration_of(context: Context, version: object) -> Calibration | None:
    """Give the held-out rows of a version with a confidence each; None where there are none."""
    import numpy as np

    from contlearn.evaluation.scoring import load_paired_scores
    from contlearn.monitoring.accuracy import Calibration

    if not isinstance(version, int):
        return None
    try:
        folder = context.registry.get(version).path
        pairs, _ = load_paired_scores(folder, context.task)
    except ContlearnError:
        return None
    confidence: list[float] = []
    right: list[bool] = []
    for pair in pairs:
        scores = pair.challenger
        if len(scores.confidences) == len(pair.targets):
            confidence += scores.confidences
            right += [a == t for a, t in zip(scores.predictions, pair.targets, strict=True)]
    if not confidence:
        return None
    return Calibration(np.array(confidence), np.array(right, dtype=float))


def look_at_accuracy(
    context: Context,
    lines: Sequence[Mapping[str, Any]],
    judged: Sequence[Mapping[str, Any]],
    version: object,
    report: DriftReport,
) -> dict[str, Any]:
    """Estimate the accuracy of a window, and measure it where labels came back.

    Args:
        context: The opened workspace.
        lines: All logged answers of the version, oldest first.
        judged: Those of the window.
        version: Its number.
        report: What the detectors say of the window.
    Returns:
        The part `accuracy` of what `contlearn drift --json` prints.
    """
    import numpy as np

    from contlearn.monitoring.accuracy import estimate_accuracy, measure_accuracy
    from contlearn.monitoring.streaming import watch_errors
    from contlearn.statistics.calibration import adaptive_calibration_error

    calibration = calibration_of(context, version)
    reference = calibration.accuracy if calibration is not None else None
    confidences = np.array([line.get("confidence") or np.nan for line in judged], dtype=float)
    estimate = (
        None
        if calibration is None
        else estimate_accuracy(
            confidences, calibration, detected=report.detected, **_flags(context, judged, version)
        )
    )
    # Keys of answers that are no labels are no aliases either.
    labels = resolved_labels(
        read_feedback(context.workspace.state / "feedback"), context.config.data
    )
    joined = join_feedback(lines, labels)
    first = str(judged[0].get("time", ""))
    last = str(judged[-1].get("time", ""))
    inside = [item for item in joined if first <= str(item[0].get("time", "")) <= last]
    measured = measure_accuracy([right for _, right in inside])
    streams = watch_errors(
        [not right for line, right in joined if str(line.get("time", "")) <= last],
        recent=len(inside) or None,
    )
    margin = context.config.monitoring.accuracy_margin
    return {
        "reference": reference,
        "estimated": _with_drop(estimate, reference, margin),
        "measured": _with_drop(measured, reference, margin, streams),
        "labels": len(joined),
        "unknown_share": _share([line.get("unknown") for line in judged]),
        "calibration_error": adaptive_calibration_error(
            np.array([item.get("confidence") or np.nan for item, _ in inside], dtype=float),
            [right for _, right in inside],
        ),
        "streams": [
            {"detector": s.detector, "detected": s.detected, "error_rate": s.rate} for s in streams
        ],
    }


def _share(flags: Sequence[object]) -> float | None:
    known = [flag for flag in flags if isinstance(flag, bool)]
    return sum(known) / len(known) if known else None


def _flags(
    context: Context, judged: Sequence[Mapping[str, Any]], version: object
) -> dict[str, Any]:
    """Give which texts the server flagged as unknown, and how many of held-out ones it flags."""
    flags = [line.get("unknown") for line in judged]
    if not isinstance(version, int) or not all(isinstance(flag, bool) for flag in flags):
        return {}
    try:
        rule = context.registry.get(version).manifest.model.unknown or {}
    except ContlearnError:
        return {}
    return {"flagged": flags, "flag_rate": float(rule["rate"])} if "rate" in rule else {}


def _with_drop(
    interval: Interval | None,
    reference: float | None,
    margin: float,
    streams: Sequence[StreamFinding] = (),
) -> dict[str, Any] | None:
    """Say whether the whole interval lies below the reference less the margin."""
    if interval is None:
        return None
    below = reference is not None and interval.high < reference - margin
    return {**interval.to_json(), "dropped": below or any(s.detected for s in streams)}
