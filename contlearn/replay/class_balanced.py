"""As many records of every label, chosen uniformly from all it ever had."""

from __future__ import annotations

from typing import ClassVar

from contlearn.replay.buffer import BoundedBuffer
from contlearn.types import Exemplar

__all__ = ["ClassBalancedBuffer"]


class ClassBalancedBuffer(BoundedBuffer):
    """Shares the capacity equally among labels, with a reservoir inside each.

    A record of a label that is among the largest may only take the place of one of its own; any
    other record takes the place of one of the largest label's.

    Source: Chrysakis and Moens, "Online Continual Learning from Imbalanced Data", 2020.
    Example:
        >>> buffer = ClassBalancedBuffer(capacity_records=4, capacity_bytes=100)
        >>> buffer.add(Exemplar(record_id=str(n), key="ab"[n > 6], size_bytes=1) for n in range(9))
        >>> [exemplar.key for exemplar in buffer.items()]
        ['a', 'a', 'b', 'b']
    """

    name: ClassVar[str] = "class-balanced"
    summary: ClassVar[str] = "as many records of each label, a uniform sample within each"

    def slot_of(self, exemplar: Exemplar) -> str:
        """Keep records of one label together."""
        return exemplar.key

    def victim_slot(self, key: str) -> str:
        """Make room in the largest slot, or in the record's own when that is among the largest."""
        most = max(len(slot) for slot in self._slots.values())
        own = len(self._slots.get(key, ()))
        # A label that was cut before has fewer records than it brought: only its own may go.
        was_cut = own > 0 and self._seen[key] - 1 > own and own >= most - 1
        return key if own == most or was_cut else self._largest()
