"""What the decisions need of a file's rows: 32 bytes each, and the staged segment on disk."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from contlearn.config import DataConfig
from contlearn.data.intake.checking import Checked, group_hash, target_digest, text_digest
from contlearn.data.intake.neighbours import NearIndex
from contlearn.data.intake.resolve import DIGEST
from contlearn.data.segments import SegmentWriter
from contlearn.types import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Collected"]

# Targets whose digest is remembered.
_MAX_TARGETS: Final = 100_000


class Collected:
    """The checked rows of one file, by number: digests, lines, sizes, keys, groups."""

    def __init__(self, data: DataConfig, staging: Path) -> None:
        self._digests = bytearray()
        self.lines, self.sizes = array("q"), array("I")
        # The number of a row's key and group; the latter -1 for none, and left out where no row
        # can have one.
        self.keys, self._groups = array("I"), array("i")
        self._has_groups = bool(data.group)
        self._key_names: dict[str, int] = {}
        self._group_names: dict[str, int] = {}
        self._targets: dict[Target, bytes] = {}
        self.near = (
            NearIndex(data.near_duplicate_similarity, staging) if data.near_duplicates else None
        )

    def stage(self, batch: Sequence[Checked], lines: Sequence[int], writer: SegmentWriter) -> None:
        """Write a row group to the staged segment, and keep what the decisions need."""
        digests, targets, near = [], self._targets, self.near
        if len(targets) > _MAX_TARGETS:
            targets.clear()
        for row in batch:
            target = targets.get(row.target)
            if target is None:
                target = targets[row.target] = target_digest(row.target)
            digests.append(text_digest(row.normal) + target)
            self.sizes.append(len(row.normal))
            self.keys.append(self._key_names.setdefault(row.key, len(self._key_names)))
            if self._has_groups:
                self._groups.append(self._group(row.group))
            if near is not None:
                near.add(row.normal)
        self.lines.extend(lines)
        self._digests += b"".join(digests)
        writer.write([digest.hex() for digest in digests], batch, lines)

    def _group(self, group: str | None) -> int:
        if group is None:
            return -1
        return self._group_names.setdefault(group_hash(group), len(self._group_names))

    def digests(self) -> NDArray[np.void]:
        """Give one `DIGEST` a row."""
        return np.frombuffer(self._digests, dtype=DIGEST)

    def groups(self) -> NDArray[np.int32]:
        """Give the number of each row's group, or -1."""
        if self._has_groups:
            return np.array(self._groups, dtype=np.int32)
        return np.full(len(self.lines), -1, dtype=np.int32)

    def group_of(self, row: int) -> int:
        """Give the number of one row's group, or -1."""
        return self._groups[row] if self._has_groups else -1

    def key_names(self) -> list[str]:
        """Give the keys by number."""
        return list(self._key_names)

    def group_names(self) -> list[str]:
        """Give the hashed groups by number."""
        return list(self._group_names)
