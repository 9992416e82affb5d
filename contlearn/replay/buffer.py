"""What every replay buffer here shares: bounds, a generator of its own, its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from contlearn.errors import RegistryError
from contlearn.types import Exemplar

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["BoundedBuffer"]

FORMAT_VERSION: Final = 1


class BoundedBuffer:
    """Keeps exemplars in slots of a key, within bounds that hold after every single record.

    A policy says only under which key a record is kept and where room is made. Records are known by
    id and are offered once; one that is kept already is passed over.

    Args:
        capacity_records: At most so many exemplars.
        capacity_bytes: At most so many bytes of records in all.
        records_per_label: At most so many exemplars a key; 0 for no such bound.
        seed: Of the buffer's own generator, until `load_state` brings another state.
    """

    name: ClassVar[str] = ""
    # What `Exemplar.priority` must hold: "" for nothing, or a name of `PRIORITIES`.
    priority: ClassVar[str] = ""

    def __init__(
        self,
        *,
        capacity_records: int,
        capacity_bytes: int,
        records_per_label: int = 0,
        seed: int = 0,
    ) -> None:
        self.capacity_records = capacity_records
        self.capacity_bytes = capacity_bytes
        self.records_per_label = records_per_label
        self._seed = seed
        self._random: Generator | None = None
        self._slots: dict[str, list[Exemplar]] = {}
        self._seen: dict[str, int] = {}
        self._ids: set[str] = set()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size_bytes(self) -> int:
        """The bytes of all records kept."""
        return self._bytes

    @property
    def seen(self) -> int:
        """How many records were ever offered."""
        return sum(self._seen.values())

    def slot_of(self, exemplar: Exemplar) -> str:
        """Say which slot a record belongs to."""
        raise NotImplementedError  # each policy gives its own

    def victim_slot(self, key: str) -> str:
        """Say from which slot a record must go when one of `key` is to come in."""
        raise NotImplementedError  # each policy gives its own

    def add(self, exemplars: Iterable[Exemplar]) -> None:
        """Offer records of an experience that was learnt."""
        for exemplar in exemplars:
            if exemplar.record_id not in self._ids:
                self._offer(exemplar)

    def remove(self, record_ids: Iterable[str]) -> int:
        """Take records out for good; give how many were there."""
        unwanted = set(record_ids) & self._ids
        for key in list(self._slots):
            for position in reversed(range(len(self._slots[key]))):
                if self._slots[key][position].record_id in unwanted:
                    self._drop(key, position)
        return len(unwanted)

    def items(self) -> tuple[Exemplar, ...]:
        """Give what is kept, ordered by key and then by id."""
        return tuple(
            sorted(
                (item for slot in self._slots.values() for item in slot),
                key=lambda item: (item.key, item.record_id),
            )
        )

    def state(self) -> dict[str, object]:
        """Give everything `load_state` needs, as JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "policy": self.name,
            "generator": self._generator.bit_generator.state,
            "seen": dict(sorted(self._seen.items())),
            "slots": {
                key: [_to_list(e) for e in slot] for key, slot in sorted(self._slots.items())
            },
        }

    def load_state(self, state: Mapping[str, object]) -> None:
        """Become the buffer that `state` was taken from, cut to this one's bounds.

        A state of another policy is taken over record by record.

        Raises:
            RegistryError: When the state is of another format version.
        """
        if state.get("format_version") != FORMAT_VERSION:
            raise RegistryError(
                f"The replay buffer has format version {state.get('format_version')}, "
                f"not {FORMAT_VERSION}.",
                where="state/state.json of the champion",
                hint="Use the contlearn that wrote it.",
            )
        values: Mapping[str, Any] = state
        slots = {
            key: [
                Exemplar(record_id=i, key=k, size_bytes=b, priority=rest[0] if rest else 0.0)
                for i, k, b, *rest in slot
            ]
            for key, slot in values["slots"].items()
        }
        self._generator.bit_generator.state = values["generator"]
        self._slots, self._seen, self._ids, self._bytes = {}, {}, set(), 0
        if values["policy"] != self.name:
            self.add(item for slot in slots.values() for item in slot)
            return
        self._seen = {key: int(count) for key, count in values["seen"].items()}
        for key, slot in slots.items():
            for exemplar in slot:
                self._put(key, exemplar)
        self._shrink()

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _generator(self) -> Generator:
        # numpy comes in when a buffer is used, not when plugins are listed.
        if self._random is None:
            import numpy as np

            self._random = np.random.default_rng(self._seed)
        return self._random

    def _offer(self, exemplar: Exemplar) -> None:
        key = self.slot_of(exemplar)
        self._seen[key] = self._seen.get(key, 0) + 1
        if exemplar.size_bytes > self.capacity_bytes or self.capacity_records < 1:
            return
        slot = self._slots.get(key, [])
        limit = self.records_per_label
        is_full = len(self) >= self.capacity_records
        is_heavy = self._bytes + exemplar.size_bytes > self.capacity_bytes
        if limit and len(slot) >= limit:
            self._replace(key, exemplar)
        elif not is_full and not is_heavy:
            self._put(key, exemplar)
        else:
            victim = self.victim_slot(key)
            if victim == key:
                self._replace(key, exemplar)
            else:
                self._drop(victim, self._weakest(victim))
                self._put(key, exemplar)
        self._shrink()

    def _replace(self, key: str, exemplar: Exemplar) -> None:
        """Let the newest of `seen` records take one of the slots with probability size / seen."""
        slot = self._slots.get(key, [])
        place = int(self._generator.integers(self._seen[key]))
        if place < len(slot):
            self._drop(key, place)
            self._put(key, exemplar)

    def _shrink(self) -> None:
        limit = self.records_per_label
        for key in [k for k, slot in self._slots.items() if limit and len(slot) > limit]:
            while len(self._slots[key]) > limit:
                self._drop(key, self._weakest(key))
        while self._ids and (
            len(self) > self.capacity_records or self._bytes > self.capacity_bytes
        ):
            victim = self._largest()
            self._drop(victim, self._weakest(victim))

    def _weakest(self, key: str) -> int:
        """Say which record of a slot goes first: here any."""
        return int(self._generator.integers(len(self._slots[key])))

    def _largest(self) -> str:
        """Give the slot with the most records; among equals one at random."""
        most = max(len(slot) for slot in self._slots.values())
        largest = sorted(key for key, slot in self._slots.items() if len(slot) == most)
        return largest[int(self._generator.integers(len(largest)))]

    def _put(self, key: str, exemplar: Exemplar) -> None:
        self._slots.setdefault(key, []).append(exemplar)
        self._ids.add(exemplar.record_id)
        self._bytes += exemplar.size_bytes

    def _drop(self, key: str, position: int) -> None:
        exemplar = self._slots[key].pop(position)
        if not self._slots[key]:
            del self._slots[key]
        self._ids.discard(exemplar.record_id)
        self._bytes -= exemplar.size_bytes

    def __iter__(self) -> Iterator[Exemplar]:
        return iter(self.items())


def _to_list(exemplar: Exemplar) -> list[object]:
    found: list[object] = [exemplar.record_id, exemplar.key, exemplar.size_bytes]
    return [*found, exemplar.priority] if exemplar.priority else found
