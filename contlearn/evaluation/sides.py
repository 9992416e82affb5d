"""Rows that changed sides: right before and wrong now, or the other way round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from contlearn.types import PairedScores

__all__ = ["Changes", "count_changes"]


class Changes(NamedTuple):
    """How many rows went from right to wrong, how many from wrong to right, and all."""

    lost: int
    won: int
    rows: int


def count_changes(pairs: Iterable[PairedScores]) -> Changes:
    """Count the rows that only one of the two answers right; a row counts as a whole."""
    lost = won = rows = 0
    for pair in pairs:
        if pair.champion is None:
            continue
        for before, after in zip(pair.champion.credits, pair.challenger.credits, strict=True):
            rows += 1
            lost += before >= 1.0 > after
            won += after >= 1.0 > before
    return Changes(lost, won, rows)
