"""Buffers that ask the model which records of a label are worth keeping.

The model that has just learnt an experience gives each of its records a priority, once; inside a
label the highest stay. Labels share the capacity as in `ClassBalancedBuffer`.
"""

from __future__ import annotations

from typing import ClassVar

from contlearn.replay.class_balanced import ClassBalancedBuffer
from contlearn.types import Exemplar

__all__ = ["HerdingBuffer", "LossAwareBuffer", "UncertaintyBuffer"]


class PriorityBuffer(ClassBalancedBuffer):
    """Keeps the records of highest priority of each label."""

    name: ClassVar[str] = ""

    def _weakest(self, key: str) -> int:
        slot = self._slots[key]
        return min(range(len(slot)), key=lambda i: (slot[i].priority, slot[i].record_id))

    def _replace(self, key: str, exemplar: Exemplar) -> None:
        """Let a record in if it is worth more than the weakest of its slot."""
        slot = self._slots.get(key, [])
        if not slot:
            return
        place = self._weakest(key)
        if exemplar.priority > slot[place].priority:
            self._drop(key, place)
            self._put(key, exemplar)


class HerdingBuffer(PriorityBuffer):
    """Keeps the records whose features together come nearest to their label's mean.

    Source: Welling, "Herding Dynamical Weights to Learn", 2009; Rebuffi et al. (iCaRL), 2017.
    Example:
        >>> buffer = HerdingBuffer(capacity_records=1, capacity_bytes=100)
        >>> buffer.add(Exemplar(record_id=str(n), key="a", size_bytes=1, priority=-n)
        ...     for n in (3, 1, 2))
        >>> [exemplar.record_id for exemplar in buffer.items()]
        ['1']
    """

    name: ClassVar[str] = "herding"
    summary: ClassVar[str] = "the records of each label that stand for its mean best"
    priority: ClassVar[str] = "herding"


class UncertaintyBuffer(PriorityBuffer):
    """Prefers records that the model is unsure of; each keeps a chance.

    A weighted reservoir inside each label: a record's weight is the entropy of its prediction.

    Source: Efraimidis and Spirakis, "Weighted Random Sampling with a Reservoir", 2006; the measure
    after Bang et al., "Rainbow Memory", 2021.
    """

    name: ClassVar[str] = "uncertainty"
    summary: ClassVar[str] = "prefers records of each label that the model is unsure of"
    priority: ClassVar[str] = "uncertainty"


class LossAwareBuffer(PriorityBuffer):
    """Prefers records with a high loss; each keeps a chance, so that wrong labels do not take over.

    Source: Buzzega et al., "Rethinking Experience Replay: a Bag of Tricks for Continual Learning"
    (loss-aware reservoir), 2021; as a weighted reservoir inside each label.
    """

    name: ClassVar[str] = "loss-aware"
    summary: ClassVar[str] = "prefers records of each label with a high loss"
    priority: ClassVar[str] = "loss"
