"""Rows that a report shows one by one: gone from right to wrong, or wrong with confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from contlearn.papers.report import Flip
from contlearn.types import PairedScores, Target

__all__ = ["FLIPS", "flip_of", "worst_rows"]

# Rows of each kind that a report names.
FLIPS: Final = 20


def flip_of(target: Target, before: Target, after: Target) -> str:
    """Say what became of the answer on a row.

    Example:
        >>> flip_of("a", "b", "a"), flip_of("a", "a", "b"), flip_of("a", "b", "c")
        ('fixed', 'broken', 'changed')
        >>> flip_of("a", "b", "b")
        'same'
    """
    if before == after:
        return "same"
    if after == target:
        return "fixed"
    return "broken" if before == target else "changed"


def worst_rows(
    pairs: Sequence[PairedScores], record_ids: Sequence[Sequence[str]]
) -> dict[str, tuple[Flip, ...]]:
    """Give the rows that matter most to a reader, by record id, never with a text.

    Args:
        pairs: The held-out sets.
        record_ids: The ids of their rows.
    Returns:
        `lost`: right before and wrong now, the most confident first; `wrong`: wrong now and not
        right before either.
    """
    lost: list[Flip] = []
    wrong: list[Flip] = []
    for pair, ids in zip(pairs, record_ids, strict=True):
        confidences = pair.challenger.confidences
        for row, (record_id, target) in enumerate(zip(ids, pair.targets, strict=True)):
            if pair.challenger.credits[row] >= 1.0:
                continue
            champion = pair.champion
            was_right = champion is not None and champion.credits[row] >= 1.0
            entry = Flip(
                record_id=record_id,
                set=pair.index,
                target=target,
                before=None if champion is None else champion.predictions[row],
                after=pair.challenger.predictions[row],
                confidence=confidences[row] if confidences else None,
            )
            (lost if was_right else wrong).append(entry)
    return {"lost": _worst(lost), "wrong": _worst(wrong)}


def _worst(entries: list[Flip]) -> tuple[Flip, ...]:
    entries.sort(key=lambda item: (-(item.confidence or 0.0), item.record_id))
    return tuple(entries[:FLIPS])
