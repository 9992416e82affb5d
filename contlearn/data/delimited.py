"""CSV and TSV with a header: the delimiter is found by the columns that must be there."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from contlearn.config import LimitsConfig
from contlearn.data.streams import HEAD_BYTES, iter_lines, open_text, printable, refuse_file
from contlearn.errors import RecordError
from contlearn.interfaces import ParsedRow, RowProblem

__all__ = ["CsvRows", "TsvRows"]

_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}


class _RecordTooLong(Exception):
    """A record that quoting spreads over more bytes than the limit."""


class _Lines:
    """Feeds lines to the csv module, counting them, and stops a record that grows too long."""

    def __init__(self, read: Callable[[int], bytes], limits: LimitsConfig) -> None:
        self._lines = iter_lines(read, limits.line_bytes)
        self._limit = limits.line_bytes
        self._put_back: list[str] = []
        self.number = 0
        self._taken = 0
        self.head = ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._put_back:
            line = self._put_back.pop()
        else:
            number, data, too_long = next(self._lines)
            # Bytes that are not UTF-8 become lone surrogates (PEP 383), which no text may hold.
            line = data.decode("utf-8", errors="surrogateescape") + "\n"
            self._taken += len(data)
            self.number = number
            if too_long:
                self._taken = self._limit + 1
        if len(self.head) < HEAD_BYTES:
            self.head += line[:HEAD_BYTES]
        if self._taken > self._limit:
            raise _RecordTooLong
        return line

    def begin_record(self) -> None:
        """Start counting anew."""
        self._taken, self.head = 0, ""

    def first_line(self) -> str | None:
        """Look at the first line that is not empty, without taking it."""
        for line in self:
            if line.strip():
                self._put_back.append(line)
                self.head = ""
                return line
        return None


class CsvRows:
    """Rows of cells under a header."""

    name: ClassVar[str] = "csv"
    summary: ClassVar[str] = "CSV with a header; comma, semicolon, tab or bar"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    usual: ClassVar[str] = ","

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ()
    ) -> Iterator[ParsedRow]:
        """Yield a row a record, numbered by the line it begins on."""
        csv.field_size_limit(limits.line_bytes)
        with open_text(path, limits) as text:
            lines = _Lines(text.read, limits)
            try:
                first = lines.first_line()
            except _RecordTooLong:
                raise refuse_file(
                    "too-long",
                    f"The header is longer than {limits.line_bytes:,} bytes.",
                    "Put the column names into the first row.",
                ) from None
            if first is None:
                raise refuse_file("empty-file", "The file has no rows.", "Put rows into it.")
            delimiter = _find_delimiter(first, needed, self.usual)
            notices = text.notices
            if delimiter != self.usual:
                sign = _DELIMITERS[delimiter]
                notices += (("delimiter", f"The cells are parted by a {sign}."),)
            yield from _records(lines, delimiter, needed, notices)


class TsvRows(CsvRows):
    """Rows of cells under a header, with tabs between them."""

    name: ClassVar[str] = "tsv"
    summary: ClassVar[str] = "TSV with a header"
    suffixes: ClassVar[tuple[str, ...]] = (".tsv", ".tab")
    usual: ClassVar[str] = "\t"


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return []


def _find_delimiter(first: str, needed: Sequence[str], usual: str) -> str:
    """Find the delimiter under which the first row names the columns that are needed.

    Raises:
        RecordError: no-header.
    """
    for delimiter in (usual, *_DELIMITERS):
        cells = [cell.strip() for cell in _cells(first, delimiter)]
        if len(cells) > 1 and set(needed) <= set(cells):
            return delimiter
    shown = ", ".join(repr(printable(c.strip(), 40)) for c in _cells(first, usual)[:8])
    raise _no_header(
        f"The first row does not name the columns {', '.join(map(repr, needed))}; it has {shown}."
    )


def _no_header(what: str) -> RecordError:
    return refuse_file(
        "no-header",
        what,
        "Put the column names into the first row, or set the names of the fields under [data].",
    )


def _records(
    lines: _Lines, delimiter: str, needed: Sequence[str], notices: tuple[tuple[str, str], ...]
) -> Iterator[ParsedRow]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(reader)]
    except (csv.Error, StopIteration, _RecordTooLong) as error:
        raise _no_header("The first row cannot be read.") from error
    if not set(needed) <= set(header):
        raise _no_header(f"The first row lacks one of {', '.join(map(repr, needed))}.")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise refuse_file(
            "duplicate-key",
            f"The header names the column {twice[0]!r} twice.",
            "Give each column a name of its own.",
        )
    record = 0
    while True:
        lines.begin_record()
        number = lines.number + 1
        problem: RowProblem | None = None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RecordTooLong:
            cells, problem = (
                [],
                RowProblem(
                    "too-long",
                    f"Record {record + 1}, which begins on line {number}, is too long.",
                    "Close the quotes, or raise data.limits.line_bytes in contlearn.toml.",
                ),
            )
        except csv.Error as error:
            text = str(error)
            cells, problem = (
                [],
                RowProblem(
                    "too-long" if "field limit" in text else "bad-columns",
                    f"Record {record + 1}, which begins on line {number}, cannot be read: {text}.",
                    'Close each quote; write a quote inside a cell twice: "".',
                ),
            )
        if not cells and problem is None:
            continue
        record += 1
        if problem is None and len(cells) != len(header):
            problem = RowProblem(
                "bad-columns",
                f"Record {record} (line {number}) has {len(cells)} cells; the header has "
                f"{len(header)}.",
                "Give each row as many cells as the header; quote cells that hold the delimiter.",
            )
        if problem is not None:
            yield ParsedRow(number, problem=problem, raw=_shown(lines.head))
        else:
            yield ParsedRow(number, dict(zip(header, cells, strict=True)), warnings=notices)
            notices = ()


def _shown(text: str) -> str:
    shown = text[:HEAD_BYTES].encode("utf-8", "surrogateescape")
    return shown.decode("utf-8", "backslashreplace").rstrip("\r\n")
