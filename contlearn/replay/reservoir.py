"""A uniform sample of everything that was ever learnt."""

from __future__ import annotations

from typing import ClassVar

from contlearn.replay.buffer import BoundedBuffer
from contlearn.types import Exemplar

__all__ = ["ReservoirBuffer"]


class ReservoirBuffer(BoundedBuffer):
    """Keeps each record ever offered with the same probability, whatever its label.

    Source: Vitter, "Random Sampling with a Reservoir", 1985 (algorithm R).
    Example:
        >>> buffer = ReservoirBuffer(capacity_records=2, capacity_bytes=100)
        >>> buffer.add(Exemplar(record_id=str(n), key="a", size_bytes=1) for n in range(9))
        >>> len(buffer)
        2
    """

    name: ClassVar[str] = "reservoir"
    summary: ClassVar[str] = "a uniform sample of all records ever learnt"

    def slot_of(self, exemplar: Exemplar) -> str:
        """Keep all records in one slot; a bound a label makes one slot a label."""
        return exemplar.key if self.records_per_label else ""

    def victim_slot(self, key: str) -> str:
        """Make room where the record would stand: only algorithm R decides."""
        return key if key in self._slots else self._largest()
