"""`decision.json` of a version: what every rule of the gate found."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contlearn.papers.reading import read_paper
from contlearn.types import PromotionDecision

__all__ = ["DECISION", "read_decision"]

DECISION: Final = "decision.json"


def read_decision(folder: Path) -> PromotionDecision:
    """Read the decision in a version's folder.

    Raises:
        StorageError: When it is missing or damaged.
    """
    return read_paper(folder / DECISION, PromotionDecision.from_json)
