"""What counts no longer of all that a champion has learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from contlearn.types import LabelledRecord

__all__ = ["NOTHING_WITHDRAWN", "Withdrawn"]


def _nothing() -> Iterator[Sequence[LabelledRecord]]:
    return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """What counts no longer of all that a champion has learnt.

    Args:
        record_ids: Which records.
        records: Those of them whose texts are there.
        summed: How many records the champion's sums hold if they hold all that were learnt.
        remaining: Gives the records that were learnt and count, part by part; new ones excepted.
    """

    record_ids: frozenset[str] = frozenset()
    records: Sequence[LabelledRecord] = ()
    summed: int = 0
    remaining: Callable[[], Iterator[Sequence[LabelledRecord]]] = _nothing

    @property
    def is_subtractable(self) -> bool:
        """Whether the texts of all of them are there."""
        return len(self.records) == len(self.record_ids)


NOTHING_WITHDRAWN: Final = Withdrawn()
