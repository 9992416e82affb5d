"""What strategies say about a fine-tuning, and the calibration of a trained head."""

from __future__ import annotations

from typing import Any

import numpy as np

from contlearn.statistics.calibration import fit_temperature
from contlearn.training.fine_tuning import FineTuningResult
from contlearn.training.scoring import logits_of
from contlearn.training.session import FitSession

__all__ = ["calibration", "describe"]


def calibration(session: FitSession) -> float:
    """Fit the temperature of the session's model on what was set aside; 1 without such records."""
    logits, targets = [], []
    for part in session.parts():
        if part.validation:
            data = part.validation_set()
            logits.append(logits_of(session.model, data))
            targets.append(data.flat.numpy())
    if not logits:
        return 1.0
    return fit_temperature(np.concatenate(logits), np.concatenate(targets))


def describe(result: FineTuningResult) -> dict[str, Any]:
    """Give the facts of a fine-tuning as plain values."""
    return {
        "fine_tuning": {
            "steps": result.steps,
            "samples": result.samples,
            "seconds": round(result.seconds, 3),
            "epochs": len(result.history),
            "best_epoch": result.best_epoch + 1,
            "best_score": result.best_score,
            "history": result.history,
            "resumed_at": result.resumed_at,
        }
    }
