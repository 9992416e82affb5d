"""`decision.json` of a version: what every rule of the gate found."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contlearn.errors import StorageError
from contlearn.types import PromotionDecision
from contlearn.workspace import read_json

__all__ = ["DECISION", "read_decision"]

DECISION: Final = "decision.json"


def read_decision(folder: Path) -> PromotionDecision:
    """Read the decision in a version's folder.

    Raises:
        StorageError: When it is missing or damaged.
    """
    path = folder / DECISION
    value = read_json(path)
    try:
        return PromotionDecision.from_json(value)
    except (AttributeError, TypeError) as error:
        raise StorageError(f"{DECISION} is damaged: {error}.", where=str(path)) from error
