"""Rows that changed sides: right before and wrong now, or the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from contlearn.types import PairedScores, SetScores

__all__ = ["Changes", "count_changes", "only_rows"]


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


def only_rows(pair: PairedScores, rows: Sequence[int]) -> PairedScores:
    """Give a set with some of its rows only; the measures of the whole set stay behind."""

    def some(scores: SetScores | None) -> SetScores | None:
        return None if scores is None else _only(scores, rows)

    return replace(
        pair,
        challenger=_only(pair.challenger, rows),
        champion=some(pair.champion),
        anchor=some(pair.anchor),
        kept=(),
        majority=None,
        baseline=some(pair.baseline),
        targets=tuple(pair.targets[row] for row in rows),
        slices={name: tuple(values[row] for row in rows) for name, values in pair.slices.items()},
    )


def _only(scores: SetScores, rows: Sequence[int]) -> SetScores:
    confidences = scores.confidences
    return replace(
        scores,
        rows=len(rows),
        metrics={},
        statistics=scores.statistics[list(rows)],
        predictions=tuple(scores.predictions[row] for row in rows),
        credits=tuple(scores.credits[row] for row in rows),
        confidences=tuple(confidences[row] for row in rows) if confidences else (),
    )
