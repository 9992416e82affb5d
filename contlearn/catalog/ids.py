"""Which rows of the catalog have an id: sorted runs in files, merged as they grow.

Ids are hashes: an index over them inside the database is written at as many places as records
arrive, and with millions of records that costs more than all else about a small file. Here each
file adds one run at the end, and a run is merged with the one before it when that is not much
longer, so that there are few, and a record is written again a few times in its life.

The runs are derived. Rows that no run covers are read from the catalog, so that a kill between the
commit and the run loses nothing; a run that is not of this catalog is left aside.

Source: O'Neil, Cheng, Gawlick and O'Neil, "The log-structured merge-tree", 1996.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.counting import counts
from contlearn.catalog.schema import records
from contlearn.errors import StorageError
from contlearn.workspace import write_bytes_atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Heads = NDArray[np.uint64]

__all__ = ["HEAD_DIGITS", "IdIndex", "in_rows"]

# The part of an id that is looked up: eight bytes, as hexadecimal digits.
HEAD_DIGITS: Final = 16
# Magic and version; how many; the first and the last row; the last row's id; a checksum.
_HEADER: Final = struct.Struct("<8sQQQ32sQ")
_MAGIC: Final = b"CLIDS\0\0\x01"
_NAME: Final = re.compile(r"(\d+)-(\d+)\.ids")
# A run is merged with the one before it unless that is so many times longer.
_GROWTH: Final = 3
# A reader keeps what no run covers in memory; beyond so many rows it is worth a file.
_WORTH_A_FILE: Final = 50_000
_READ_ROWS: Final = 20_000


@dataclass(frozen=True)
class _Run:
    """Rows `first` to `last` in the order of their heads; a row is `first` plus its offset."""

    first: int
    last: int
    last_id: str
    heads: Heads
    offsets: NDArray[np.uint32]
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.heads)


class IdIndex:
    """Finds the rows of ids.

    Args:
        folder: Where the runs are kept; without one they are kept in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._runs: list[_Run] = []

    def find(self, connection: Connection, heads: Heads) -> tuple[NDArray[np.int64], Heads]:
        """Find the rows whose ids begin with one of these.

        Args:
            connection: To the catalog.
            heads: The first eight bytes of ids, ascending, each once.
        Returns:
            The rows, and the head of each.
        """
        import numpy as np

        self.refresh(connection)
        rows, found = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
        for run in self._runs:
            if not len(run):
                continue
            left = np.searchsorted(run.heads, heads, side="left")
            hit = run.heads[np.minimum(left, len(run) - 1)] == heads
            if not hit.any():
                continue
            left, wanted = left[hit], heads[hit]
            number = np.searchsorted(run.heads, wanted, side="right") - left
            # Several records may have one head: each place from its left to its right.
            steps = np.arange(int(number.sum())) - np.repeat(np.cumsum(number) - number, number)
            places = np.repeat(left, number) + steps
            rows.append(run.first + run.offsets[places].astype(np.int64))
            found.append(np.repeat(wanted, number))
        return np.concatenate(rows), np.concatenate(found)

    def find_ids(self, connection: Connection, record_ids: Iterable[str]) -> dict[str, int]:
        """Give the row of each id that is in the catalog.

        A label that came again after it was superseded or forgotten has a row for each time: the
        one that counts is meant, or the newest.
        """
        import numpy as np

        wanted = {record_id for record_id in record_ids if re.fullmatch(r"[0-9a-f]{32}", record_id)}
        heads = np.unique(np.array([int(one[:HEAD_DIGITS], 16) for one in wanted], dtype=np.uint64))
        rows, _ = self.find(connection, heads)
        query = sa.select(records.c.record_id, records.c.seq, counts().label("counts"))
        found: dict[str, tuple[bool, int]] = {}
        for start in range(0, len(rows), _READ_ROWS):
            some = rows[start : start + _READ_ROWS].tolist()
            for row in connection.execute(query.where(in_rows(some))):
                if row.record_id in wanted:
                    place = (bool(row.counts), int(row.seq))
                    found[row.record_id] = max(place, found.get(row.record_id, place))
        return {record_id: seq for record_id, (_, seq) in found.items()}

    def add(self, first: int, heads: Heads, last_id: str) -> None:
        """Add a run: rows from `first` on, in the order of their ids. They are committed.

        Shape: heads (n,), ascending.
        """
        import numpy as np

        if not len(heads):
            return
        if first != (self._runs[-1].last + 1 if self._runs else 1):
            # Somebody else was faster; `refresh` reads what is missing.
            return
        offsets = np.arange(len(heads), dtype=np.uint32)
        run = _Run(first, first + len(heads) - 1, last_id, heads, offsets)
        self._runs.append(self._saved(run))
        self._merge()

    def refresh(self, connection: Connection) -> None:
        """Bring the runs up to what the catalog holds."""
        newest = connection.execute(sa.select(sa.func.max(records.c.seq))).scalar() or 0
        self._load(connection, newest)
        while (covered := self._runs[-1].last if self._runs else 0) < newest:
            run = self._from_catalog(connection, covered, newest)
            self._runs.append(self._saved(run) if len(run) >= _WORTH_A_FILE else run)
            self._merge()

    def leftovers(self) -> list[Path]:
        """Give the files that a killed writer left; nobody may be writing."""
        return [] if self._folder is None else list(self._folder.glob(".*.tmp"))

    # -- runs ------------------------------------------------------------------------------------

    def _load(self, connection: Connection, newest: int) -> None:
        """Open the runs that cover the rows from the first on, without a gap."""
        known = {(run.first, run.last): run for run in self._runs}
        if self._folder is not None:
            for path in self._folder.glob("*.ids"):
                name = _NAME.fullmatch(path.name)
                place = (int(name[1]), int(name[2])) if name else (0, 0)
                if place == (0, 0) or place in known:
                    continue
                run = _opened(path)
                if run is not None and _is_of(connection, run):
                    known[place] = run
        chosen: list[_Run] = []
        # The longest of those that begin at one row: it was merged from the others.
        for run in sorted(known.values(), key=lambda run: (run.first, -run.last)):
            begins = chosen[-1].last + 1 if chosen else 1
            if run.first == begins and run.last <= newest:
                chosen.append(run)
        self._runs = chosen

    def _from_catalog(self, connection: Connection, after: int, newest: int) -> _Run:
        """Read what no run covers. Rows may be missing from the numbers; those stay unused."""
        import numpy as np

        size, heads, offsets, last_id = 0, [], [], ""
        query = (
            sa.select(records.c.seq, records.c.record_id)
            .where(records.c.seq > after, records.c.seq <= newest)
            .order_by(records.c.seq)
        )
        result = connection.execute(query.execution_options(yield_per=_READ_ROWS))
        for part in result.partitions():
            size += len(part)
            joined = bytes.fromhex("".join(row.record_id[:HEAD_DIGITS] for row in part))
            heads.append(np.frombuffer(joined, dtype=">u8").astype(np.uint64))
            offsets.append(np.array([row.seq - after - 1 for row in part], dtype=np.uint32))
            last_id = part[-1].record_id
        every = np.concatenate(heads)
        order = np.argsort(every, kind="stable")
        return _Run(after + 1, newest, last_id, every[order], np.concatenate(offsets)[order])

    def _merge(self) -> None:
        """Merge runs at the end that are of like length."""
        import numpy as np

        first = len(self._runs) - 1
        total = len(self._runs[first])
        while first > 0 and len(self._runs[first - 1]) < _GROWTH * total:
            first -= 1
            total += len(self._runs[first])
        merged = self._runs[first:]
        if len(merged) < 2:
            return
        for place, run in enumerate(merged, start=first):
            if not _is_intact(run):
                # What is left is right; `refresh` reads the rest again.
                del self._runs[place:]
                return
        heads = np.concatenate([run.heads for run in merged])
        offsets = np.concatenate(
            [run.offsets + np.uint32(run.first - merged[0].first) for run in merged]
        )
        order = np.argsort(heads, kind="stable")
        run = _Run(
            merged[0].first, merged[-1].last, merged[-1].last_id, heads[order], offsets[order]
        )
        worth = any(one.path is not None for one in merged) or len(run) >= _WORTH_A_FILE
        self._runs[first:] = [self._saved(run) if worth else run]
        for one in merged:
            if one.path is not None and self._runs[first].path is not None:
                # A reader that has it open keeps what it has.
                with contextlib.suppress(OSError):
                    one.path.unlink(missing_ok=True)

    def _saved(self, run: _Run) -> _Run:
        """Write a run to a file; where that cannot be, it stays in memory."""
        if self._folder is None:
            return run
        path = self._folder / f"{run.first}-{run.last}.ids"
        body = run.heads.tobytes() + run.offsets.tobytes()
        head = _HEADER.pack(
            _MAGIC, len(run), run.first, run.last, run.last_id.encode(), zlib.crc32(body)
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(path, head + body)
        except (OSError, StorageError):
            return run
        opened = _opened(path)
        return run if opened is None else opened


def in_rows(rows: Sequence[int]) -> sa.ColumnElement[bool]:
    """Say `seq IN (…)` with the numbers in the statement itself: any number of them."""
    bound: Any = sa.bindparam("rows", list(rows), expanding=True, literal_execute=True)
    return records.c.seq.in_(bound)


def _opened(path: Path) -> _Run | None:
    """Map a run's file; None for one that is cut, or of another form."""
    import numpy as np

    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            size = file.seek(0, 2)
        magic, number, first, last, last_id, _ = _HEADER.unpack(head)
        if magic != _MAGIC or size != _HEADER.size + 12 * number or not number:
            return None
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=_HEADER.size)
    except (OSError, ValueError, struct.error):
        return None
    heads, offsets = data[: 8 * number].view(np.uint64), data[8 * number :].view(np.uint32)
    return _Run(first, last, last_id.decode(), heads, offsets, path)


def _is_intact(run: _Run) -> bool:
    """Compare a mapped run with its checksum; one that differs is removed."""
    if run.path is None:
        return True
    try:
        with run.path.open("rb") as file:
            *_, checksum = _HEADER.unpack(file.read(_HEADER.size))
        found = zlib.crc32(run.offsets.tobytes(), zlib.crc32(run.heads.tobytes()))
        if found == checksum:
            return True
        run.path.unlink(missing_ok=True)
    except (OSError, struct.error):
        pass
    return False


def _is_of(connection: Connection, run: _Run) -> bool:
    """Say whether a run is of this catalog: its last row has the id that it should have."""
    query = sa.select(records.c.record_id).where(records.c.seq == run.last)
    return connection.execute(query).scalar() == run.last_id
