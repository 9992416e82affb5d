"""Which held-out rows an export is compared on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final, TypeVar

__all__ = ["MOST_SAMPLES", "spread"]

# Held-out rows that an export is compared with its checkpoint on.
MOST_SAMPLES: Final = 400
T = TypeVar("T")


def spread(groups: Sequence[Sequence[T]], most: int) -> list[T]:
    """Take items of all groups in turn, until there are enough.

    Example:
        >>> spread([[1, 2, 3], [4], [5, 6]], 5)
        [1, 4, 5, 2, 6]
    """
    turns = range(max(map(len, groups), default=0))
    taken = (group[turn] for turn in turns for group in groups if turn < len(group))
    return list(islice(taken, most))
