"""What strategies say about a fine-tuning, and the calibration of a trained head."""

from __future__ import annotations

from typing import Any

import numpy as np

from contlearn.training.fine_tuning import FineTuningResult
from contlearn.training.scoring import logits_of
from contlearn.training.session import FitSession
from contlearn.types import Calibration

__all__ = ["calibration", "describe"]


def calibration(session: FitSession) -> Calibration:
    """Let the task calibrate the session's model on what was set aside, if there is anything."""
    logits, targets = [], []
    for part in session.parts():
        if part.validation:
            data = part.validation_set()
            logits.append(logits_of(session.model, data))
            targets.append(data.flat.numpy())
    if not logits:
        return Calibration()
    rows, wanted = np.concatenate(logits), np.concatenate(targets)
    return session.task.calibrate(rows, wanted, session.space)


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
