"""Near-duplicates: texts that are almost the same, in a file and against the held-out reserve.

The signatures come from datasketch; bands of them are compared by sorting, so that a row
needs 96 bytes on disk and no index in memory.
"""

from __future__ import annotations

import io
import re
import tempfile
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from contlearn.deferred import DeferringFinder, Named, deferring
from contlearn.workspace import FileOperations, write_bytes_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NearIndex", "Reserve", "shingles"]

PERMUTATIONS: Final = 64
BANDS: Final = 8
_ROWS: Final = PERMUTATIONS // BANDS
_SHINGLE: Final = 4
# So much of a file's signatures stays in memory; the rest of a longer one lies on disk.
_IN_MEMORY: Final = 2 << 20
_PART_ROWS: Final = 16_384
# Where fewer than one row in so many is wanted, each is read by itself.
_FEW: Final = 256
# A text longer than this is judged by its beginning.
_MAX_CHARACTERS: Final = 4_000
_NO_WORD: Final = re.compile(r"[\W_]+")
# Of scipy datasketch takes one integral, which no signature needs.
_NAMED_ONLY: Final[Named] = MappingProxyType(
    {
        "datasketch.lsh": {"scipy.integrate": ("quad",)},
        "datasketch.lsh_bloom": {"scipy.integrate": ("quad",)},
    }
)


def shingles(normal: str) -> list[bytes]:
    """Cut a text into overlapping pieces of four characters, without case and punctuation.

    Example:
        >>> shingles("Hi, you!") == shingles("hi you")
        True
    """
    plain = _NO_WORD.sub(" ", normal[:_MAX_CHARACTERS].casefold()).strip()
    if not plain:
        return [normal.encode("utf-8")]
    data = f" {plain} ".encode("utf-32-le")
    # Four bytes a character, so that no piece cuts through one.
    width = 4 * _SHINGLE
    return [data[i : i + width] for i in range(0, max(1, len(data) - width + 4), 4)]


class _Spool:
    """Rows of numbers that grow: in memory at first, then in a file without a name."""

    def __init__(self, folder: Path | None, kind: type[np.generic], width: int) -> None:
        self._kind, self._width = np.dtype(kind), width
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=place)  # noqa: SIM115 - closed when the index goes
        weakref.finalize(self, self._file.close)
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows behind the others."""
        self._file.write(rows.tobytes())
        self._rows += len(rows)

    def take(self, rows: NDArray[np.int64], column: int | None = None) -> NDArray[Any]:
        """Give some rows, ascending, or one column of them; a part of the file at a time."""
        shape = (len(rows),) if column is not None else (len(rows), self._width)
        found = np.empty(shape, dtype=self._kind)
        if len(rows) * _FEW < self._rows:
            for place, row in enumerate(rows.tolist()):
                self._file.seek(row * self._width * self._kind.itemsize)
                found[place] = self._read(1)[0] if column is None else self._read(1)[0, column]
            self._file.seek(0, io.SEEK_END)
            return found
        self._file.seek(0)
        for start in range(0, self._rows, _PART_ROWS):
            part = self._read(min(_PART_ROWS, self._rows - start))
            first, last = np.searchsorted(rows, (start, start + len(part)))
            chosen = part[rows[first:last] - start]
            found[first:last] = chosen if column is None else chosen[:, column]
        return found

    def _read(self, rows: int) -> NDArray[Any]:
        data = self._file.read(rows * self._width * self._kind.itemsize)
        return np.frombuffer(data, dtype=self._kind).reshape(-1, self._width)


class NearIndex:
    """Signatures of one file's rows.

    Args:
        similarity: The share of shingles that near-duplicates have in common.
        folder: Where the signatures of a long file lie meanwhile.

    Source: Broder, "On the resemblance and containment of documents", 1997; banding after Leskovec,
    Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3; the eight bits kept of each value
    after Li and König, "b-Bit Minwise Hashing", 2010.
    """

    def __init__(self, similarity: float, folder: Path | None = None) -> None:
        with deferring(DeferringFinder(_NAMED_ONLY)):
            from datasketch import MinHash

        self._similarity = similarity
        self._hash: Any = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)
        self._values: list[NDArray[np.uint32]] = []
        self._bands = _Spool(folder, np.uint32, BANDS)
        self._bits = _Spool(folder, np.uint8, PERMUTATIONS)

    def add(self, normal: str) -> None:
        """Add the next row's text."""
        self._hash.clear()
        self._hash.update_batch(shingles(normal))
        self._values.append(self._hash.hashvalues.copy())
        if len(self._values) >= 4096:
            self._fold()

    def _fold(self) -> None:
        """Keep band hashes and eight bits a value; the signatures themselves go."""
        if not self._values:
            return
        values = np.stack(self._values)
        self._values.clear()
        self._bits.append(values.astype(np.uint8))
        self._bands.append(band_hashes(values))

    def __len__(self) -> int:
        return len(self._bands) + len(self._values)

    def signatures(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Give band hashes (n, BANDS) and bits (n, PERMUTATIONS) of some rows, ascending."""
        self._fold()
        return self._bands.take(rows), self._bits.take(rows)

    def pairs(
        self, rows: NDArray[np.int64], reserve: Reserve | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Find near-duplicates among some of the rows, and those near to the reserve.

        Args:
            rows: The rows that count, ascending.
            reserve: Signatures of held-out records.
        Returns:
            Pairs of rows (an earlier one, a later one), and the rows near to a held-out record.
        """
        self._fold()
        kept = None if reserve is None or len(reserve) == 0 else reserve
        firsts, seconds, near = [], [], []
        for band in range(BANDS):
            own = self._bands.take(rows, band)
            order = np.argsort(own, kind="stable")
            same = own[order][1:] == own[order][:-1]
            if same.any():
                # Each member of a bucket is compared with the bucket's first row.
                starts = np.concatenate(([True], ~same))
                leader = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
                a, b = rows[leader[~starts]], rows[order[~starts]]
                agree = self._agree(a, b, self._bits_of)
                firsts.append(a[agree])
                seconds.append(b[agree])
            if kept is not None:
                theirs, places = kept.band(band)
                at = np.minimum(np.searchsorted(theirs, own), len(theirs) - 1)
                hit = np.flatnonzero(theirs[at] == own)
                mine = rows[hit]
                agree = self._agree(mine, places[at[hit]], kept.bits_of)
                near.append(mine[agree])
        none = np.zeros(0, dtype=np.int64)
        if firsts:
            pairs = np.unique(np.stack([np.concatenate(firsts), np.concatenate(seconds)]), axis=1)
            first, second = pairs[0], pairs[1]
        else:
            first = second = none
        return first, second, np.unique(np.concatenate(near)) if near else none

    def _bits_of(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give the bits of some rows in any order."""
        some, places = np.unique(rows, return_inverse=True)
        return self._bits.take(some)[places]

    def _agree(
        self,
        rows: NDArray[np.int64],
        others: NDArray[np.int64],
        bits_of: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    ) -> NDArray[np.bool_]:
        """Say which pairs are as similar as asked, by the share of equal signature values."""
        result = np.zeros(len(rows), dtype=np.bool_)
        for start in range(0, len(rows), _PART_ROWS):
            part = slice(start, start + _PART_ROWS)
            equal = (self._bits_of(rows[part]) == bits_of(others[part])).mean(axis=1)
            # One value in 256 agrees by chance.
            result[part] = (equal - 1 / 256) / (1 - 1 / 256) >= self._similarity
        return result


def band_hashes(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash each band of each signature. Shape: values (n, PERMUTATIONS); the answer (n, BANDS)."""
    parts = values.reshape(len(values), BANDS, _ROWS).astype(np.uint64)
    mixed = np.zeros(parts.shape[:2], dtype=np.uint64)
    for column in range(_ROWS):
        mixed = (mixed ^ parts[:, :, column]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


class Reserve:
    """Signatures of the newest held-out records, bounded in number, in one file.

    The file may know records that a killed run never finished; being near to them only moves a row
    to the side it would have had next to them.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._path, self._capacity = path, capacity
        self.bands: NDArray[np.uint32] = np.zeros((0, BANDS), dtype=np.uint32)
        self.bits: NDArray[np.uint8] = np.zeros((0, PERMUTATIONS), dtype=np.uint8)
        self._sorted: dict[int, tuple[NDArray[np.uint32], NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return len(self.bands)

    def load(self) -> Reserve:
        """Read the file; a missing or damaged one is an empty reserve."""
        width = BANDS * 4 + PERMUTATIONS
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return self
        if len(data) % width == 0:
            table = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
            self.bands = np.ascontiguousarray(table[:, : BANDS * 4]).view(np.uint32)
            self.bits = np.ascontiguousarray(table[:, BANDS * 4 :])
        return self

    def band(self, band: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Give one band's hashes, sorted, and which record each belongs to."""
        if band not in self._sorted:
            order = np.argsort(self.bands[:, band], kind="stable")
            self._sorted[band] = (self.bands[order, band], order)
        return self._sorted[band]

    def bits_of(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give the bits of some records."""
        return self.bits[places]

    def add(
        self, bands: NDArray[np.uint32], bits: NDArray[np.uint8], files: FileOperations
    ) -> None:
        """Add held-out records, let the oldest go, and write the file."""
        if not len(bands) or not self._capacity:
            return
        self.bands = np.concatenate([self.bands, bands])[-self._capacity :]
        self.bits = np.concatenate([self.bits, bits])[-self._capacity :]
        self._sorted.clear()
        buffer = io.BytesIO()
        table = np.concatenate([self.bands.view(np.uint8), self.bits], axis=1)
        buffer.write(table.tobytes())
        write_bytes_atomic(self._path, buffer.getvalue(), files=files)
