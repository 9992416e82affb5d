"""The journal of the registry: append-only, each line with the hash of the one before.

A line is one JSON object: `number`, `at`, `event`, the event's own fields, `last_alias`,
`last_anchor` and `last_delete`, the places in the file of the newest records of these rare events
before it (null where there is none), and `prev`, the SHA-256 of the line before it (64 zeros at the
beginning).
Whoever changes or removes a line breaks the chain, and `Journal.verify` says where.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from contlearn.errors import RegistryError
from contlearn.interfaces import Clock
from contlearn.papers.journal import RARE, JournalRecord
from contlearn.workspace import FileOperations, storage_border, write_bytes_atomic

__all__ = ["Journal"]

_START: Final = "0" * 64
# Bytes read at first when looking backwards; the newest hundred records fit in.
_BLOCK: Final = 1 << 16
_LARGEST_BLOCK: Final = 1 << 22


class Journal:
    """versions/events.jsonl. Only a writer that holds the registry's lock appends or repairs.

    Args:
        path: The file; made by the first record.
        files: How files are changed.
        clock: Gives the time of a record.
    """

    def __init__(self, path: Path, *, files: FileOperations, clock: Clock) -> None:
        self.path = path
        self._files = files
        self._clock = clock

    def append(self, event: str, **fields: object) -> None:
        """Write one record and flush it to the disk before returning.

        Raises:
            RegistryError: When the last line is damaged.
            StorageError: When it could not be written; a torn line is repaired by `repair`.
        """
        # A torn line may stand at the end if the last writer's append failed half way.
        self.repair()
        place, last = self._last_line()
        before = self._parsed(last) if last else None
        record = {
            "number": 1 if before is None else before.number + 1,
            "at": self._clock.now().isoformat(),
            "event": event,
            **fields,
            **{f"last_{rare}": self._link(rare, place, before) for rare in RARE},
            "prev": hashlib.sha256(last).hexdigest() if last else _START,
        }
        line = json.dumps(record, default=str).encode() + b"\n"
        with storage_border("write the journal", self.path):
            new = not self.path.exists()
            self._files.append(self.path, line)
            if new:
                self._files.fsync_folder(self.path.parent)

    def records(self) -> Iterator[JournalRecord]:
        """Give every whole record, oldest first; a torn last line is left out.

        Raises:
            RegistryError: When a line is damaged.
        """
        data = self._read()
        for number, line in enumerate(data[: _whole_length(data)].splitlines(), start=1):
            yield self._parsed(line, number)

    def back(self, *events: str) -> Iterator[JournalRecord]:
        """Give the whole records, newest first, of these events only if some are named.

        The file is read from its end: the newest records cost the same however long it is.

        Raises:
            RegistryError: When a line on the way is damaged.
        """
        marks = [f'"event": {json.dumps(event)}'.encode() for event in events]
        for lines in self._blocks_back():
            for line in reversed(lines.splitlines()):
                if marks and not any(mark in line for mark in marks):
                    continue
                record = self._parsed(line)
                if not events or record.event in events:
                    yield record

    def find_last(self, event: str, **fields: object) -> JournalRecord | None:
        """Give the newest record of an event with these fields, without parsing the rest.

        The search goes backwards through bytes and ends with the first that is found.
        """
        marks = [f'"event": {json.dumps(event)}'.encode()]
        marks += [f'"{key}": {json.dumps(value)}'.encode() for key, value in fields.items()]
        needle = marks[-1]
        for data in self._blocks_back():
            end = len(data)
            while (found := data.rfind(needle, 0, end)) >= 0:
                start = data.rfind(b"\n", 0, found) + 1
                line = data[start : data.find(b"\n", found)]
                if all(mark in line for mark in marks):
                    record = self._parsed(line)
                    if record.event == event and all(
                        record.source.get(key) == value for key, value in fields.items()
                    ):
                        return record
                end = start
        return None

    def linked(self, event: str) -> Iterator[JournalRecord]:
        """Give the records of an event of `RARE`, newest first, without reading what is between.

        Each record says where the newest of these events before it is; a journal without such
        links, or with wrong ones, is searched.
        """
        _, line = self._last_line()
        record = self._parsed(line) if line else None
        while record is not None:
            if record.event == event:
                yield record
            number, place = record.number, record.links.get(event, -1)
            if place is None:
                return
            record = self._record_at(place, event) if place >= 0 else None
            if record is None or record.number >= number:
                yield from (r for r in self.back(event) if r.number < number)
                return

    def get(self, number: int) -> JournalRecord | None:
        """Give the record with this number, without parsing the rest."""
        mark = f'{{"number": {number}, '.encode()
        for data in self._blocks_back():
            start = 0 if data.startswith(mark) else data.rfind(b"\n" + mark) + 1
            if data.startswith(mark, start):
                return self._parsed(data[start : data.find(b"\n", start)])
        return None

    def count(self, event: str) -> int:
        """Count the records of an event, without parsing them."""
        mark = f'"event": {json.dumps(event)}, '.encode()
        # A quote inside a value is escaped, so that the mark stands in no reason or name.
        return sum(data.count(mark) for data in self._blocks_back())

    def verify(self) -> list[str]:
        """Follow the chain of hashes.

        Returns:
            One sentence a problem, naming the line; nothing when the journal is whole.
        """
        problems = []
        data = self._read()
        previous = _START
        lines = data.split(b"\n")
        if lines[-1]:
            problems.append(f"events.jsonl line {len(lines)} is torn")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                record = JournalRecord.from_line(line)
                if record.prev is None:
                    raise ValueError("has no prev")
            except ValueError as error:
                problems.append(f"events.jsonl line {number} is damaged: it {error}")
                previous = ""
                continue
            if previous and record.prev != previous:
                problems.append(f"events.jsonl line {number - 1 or 1} was changed or removed")
            previous = hashlib.sha256(line).hexdigest()
        return problems

    def repair(self) -> str | None:
        """Cut a torn last line off; what was torn is kept beside the journal.

        Returns:
            What was done, or None.
        """
        if self._ends_whole():
            return None
        data = self._read()
        whole = data[: _whole_length(data)]
        torn = self.path.with_name(f"events.torn-{hashlib.sha256(data).hexdigest()[:12]}")
        write_bytes_atomic(torn, data[len(whole) :], files=self._files)
        write_bytes_atomic(self.path, whole, files=self._files)
        return "a torn last line was cut off the journal"

    def _ends_whole(self) -> bool:
        reader = self._open()
        if reader is None:
            return True
        with reader:
            if reader.seek(0, 2) == 0:
                return True
            reader.seek(-1, 2)
            return reader.read(1) == b"\n"

    def _last_line(self) -> tuple[int, bytes]:
        """Give the last whole line and where it begins, reading the end of the file only."""
        reader = self._open()
        if reader is None:
            return 0, b""
        with reader:
            size, step = reader.seek(0, 2), _BLOCK
            while True:
                start = max(0, size - step)
                reader.seek(start)
                tail = reader.read(size - start)
                end = _whole_length(tail) - 1
                begin = tail.rfind(b"\n", 0, max(end, 0)) + 1
                if start == 0 or (end > 0 and begin > 0):
                    return start + begin, tail[begin:end] if end > 0 else b""
                step *= 4

    def _link(self, event: str, place: int, last: JournalRecord | None) -> int | None:
        """Say where the newest record of a rare event is, given the last record and its place."""
        if last is None:
            return None
        if last.event == event:
            return place
        if event in last.links:
            return last.links[event]
        # A journal that was begun without links: searched once, by the next record.
        newest = next(self.back(event), None)
        if newest is None:
            return None
        start = self._read().find(f'{{"number": {newest.number}, '.encode())
        return start if start >= 0 else None

    def _record_at(self, place: int, event: str) -> JournalRecord | None:
        """Read the record at a place; None when it is not one of this event, as it should be."""
        reader = self._open()
        if reader is None:
            return None
        with reader, contextlib.suppress(ValueError):
            reader.seek(place)
            record = JournalRecord.from_line(reader.readline())
            if record.event == event:
                return record
        return None

    def _blocks_back(self) -> Iterator[bytes]:
        """Give blocks of whole lines, the newest first, each larger than the one before.

        What stands behind the last newline is torn, and left out.
        """
        reader = self._open()
        if reader is None:
            return
        with reader:
            start, size, carried, is_torn = reader.seek(0, 2), _BLOCK, b"", True
            while start > 0:
                end, start = start, max(0, start - size)
                reader.seek(start)
                data = reader.read(end - start) + carried
                size = min(4 * size, _LARGEST_BLOCK)
                if is_torn and b"\n" in data:
                    data, is_torn = data[: _whole_length(data)], False
                # The first line of a block may begin in the block before it.
                cut = data.find(b"\n") + 1 if start > 0 else 0
                if is_torn or (start > 0 and cut in (0, len(data))):
                    carried = data
                    continue
                carried = data[:cut]
                yield data[cut:]

    def _parsed(self, line: bytes, number: int | None = None) -> JournalRecord:
        try:
            return JournalRecord.from_line(line)
        except ValueError as error:
            raise RegistryError(
                f"A line of the journal {error}: {line[:60].decode(errors='replace')!r}.",
                where=str(self.path) + ("" if number is None else f", line {number}"),
                hint="`contlearn verify` names the line. Restore versions/events.jsonl from a "
                "backup.",
            ) from error

    def _open(self) -> BinaryIO | None:
        with storage_border("read the journal", self.path), contextlib.suppress(FileNotFoundError):
            return self.path.open("rb")
        return None

    def _read(self) -> bytes:
        reader = self._open()
        if reader is None:
            return b""
        with reader:
            return reader.read()


def _whole_length(data: bytes) -> int:
    """Give the length up to and with the last newline; after a whole append it is all of it."""
    return data.rfind(b"\n") + 1
