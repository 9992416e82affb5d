"""CSV and TSV with a header: the delimiter is found by the columns that must be there."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from contlearn.config import LimitsConfig
from contlearn.data.formats.encodings import INNER_MARK
from contlearn.data.formats.streams import (
    ROW_BYTES,
    TextFile,
    iter_lines,
    open_text,
    refuse_file,
)
from contlearn.errors import RecordError
from contlearn.interfaces import ParsedRow, RowProblem
from contlearn.wording import quoted

__all__ = ["CsvRows", "TsvRows"]

_SEPARATOR: Final = re.compile(r"sep=(.)", re.IGNORECASE)
_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
# How far is looked ahead for the form of a file.
_SAMPLE_LINES: Final = 100
_SAMPLE_BYTES: Final = 1 << 18
# A cell whose quotes are text, because a blank stands before them.
_BLANK_QUOTE: Final = re.compile(r' +"')


class _RecordTooLong(Exception):
    """A record that quoting spreads over more bytes than the limit."""


class _Lines:
    """Feeds lines to the csv module, counting them, and stops a record that grows too long."""

    def __init__(self, text: TextFile, limits: LimitsConfig) -> None:
        self._lines = iter_lines(text.read, limits.line_bytes, dropped=self._drop)
        self._guess = text.guess
        self._limit = limits.line_bytes
        self._put_back: list[str] = []
        self._ahead: deque[tuple[int, bytes, bool, int]] = deque()
        self.number = 0
        self._taken = self._quotes = 0
        self.head = ""
        self.has_mark = False
        self.problem: RowProblem | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._put_back:
            line = self._put_back.pop()
            self._quotes += line.count('"')
        else:
            number, data, too_long = self._next_raw()
            try:
                line = data.decode("utf-8") + "\n"
            except UnicodeDecodeError as error:
                # Lone surrogates stand for the bytes (PEP 383); the record is refused.
                line = data.decode("utf-8", errors="surrogateescape") + "\n"
                if not too_long:
                    self.problem = self.problem or self._not_utf8(number, data, error)
            if not self._taken and line.startswith("\ufeff"):
                line, self.has_mark = line.removeprefix("\ufeff"), True
            self._taken += len(data)
            self._quotes += data.count(b'"')
            self.number = number
            if too_long:
                self._taken = self._limit + 1
        if len(self.head) < ROW_BYTES:
            self.head += line[:ROW_BYTES]
        if self._taken > self._limit:
            raise _RecordTooLong
        return line

    def _next_raw(self) -> tuple[int, bytes, bool]:
        if not self._ahead:
            return next(self._lines)
        number, data, too_long, dropped = self._ahead.popleft()
        self._quotes += dropped
        return number, data, too_long

    def look_ahead(self) -> str:
        """Give the text of the next lines without taking them."""
        kept, size = self._quotes, 0
        while len(self._ahead) < _SAMPLE_LINES and size < _SAMPLE_BYTES:
            self._quotes = 0
            item = next(self._lines, None)
            if item is None:
                break
            self._ahead.append((*item, self._quotes))
            size += len(item[1])
        self._quotes = kept
        data = b"".join(item[1] + b"\n" for item in self._ahead)
        return data.decode("utf-8", errors="replace")

    def _drop(self, piece: bytes) -> None:
        """Count the quotes in what is left out of a line that is too long."""
        self._quotes += piece.count(b'"')

    def _not_utf8(self, number: int, data: bytes, error: UnicodeDecodeError) -> RowProblem:
        return RowProblem(
            "bad-encoding",
            f"The byte 0x{data[error.start]:02X} on line {number} is not UTF-8.",
            self._guess.hint(data),
        )

    def begin_record(self) -> None:
        """Start counting anew."""
        self._taken, self._quotes, self.head, self.problem = 0, 0, "", None

    def skip_record(self) -> int:
        """Pass the rest of a record that is too long: up to the line that closes its quote.

        Returns:
            The last line of it.
        """
        while self._quotes % 2:
            try:
                self.number, data, _ = self._next_raw()
            except StopIteration:
                break
            self._quotes += data.count(b'"')
        return self.number

    def has_put_back(self) -> bool:
        """Say whether the line of `number` is still to be read."""
        return bool(self._put_back)

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

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self._columns = tuple(columns)

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ()
    ) -> Iterator[ParsedRow]:
        """Yield a row a record, numbered by the line it begins on."""
        csv.field_size_limit(limits.line_bytes)
        with open_text(path, limits) as text:
            lines = _Lines(text, limits)
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
            stated = _SEPARATOR.fullmatch(first.strip())
            if stated is not None:
                # Excel's own way to name the delimiter: a line before the header.
                next(lines)
                first = lines.first_line() or ""
            columns = self._columns
            try:
                delimiter = _find_delimiter(first, needed, stated[1] if stated else self.usual)
                columns = ()
            except RecordError:
                if not columns:
                    raise
                delimiter = _find_by_number(first, len(columns), self.usual)
            notices = text.notices
            if delimiter != self.usual:
                sign = _DELIMITERS.get(delimiter, repr(delimiter))
                notices += (("delimiter", f"The cells are parted by a {sign}."),)
            if columns:
                notices += (("no-header", f"The columns are {', '.join(columns)} (data.columns)."),)
            has_blanks = _has_blanks(first, lines.look_ahead(), delimiter)
            if has_blanks:
                said = f"A blank follows each {_DELIMITERS.get(delimiter, delimiter)}; it is no"
                notices += (("blanks", f"{said} part of the cells."),)
            reader = csv.reader(
                lines, delimiter=delimiter, strict=True, skipinitialspace=has_blanks
            )
            yield from _records(lines, reader, needed, notices, columns)


class TsvRows(CsvRows):
    """Rows of cells under a header, with tabs between them."""

    name: ClassVar[str] = "tsv"
    summary: ClassVar[str] = "TSV with a header"
    suffixes: ClassVar[tuple[str, ...]] = (".tsv", ".tab")
    usual: ClassVar[str] = "\t"


def _has_blanks(first: str, sample: str, delimiter: str) -> bool:
    """Say whether a file is written with a blank after each delimiter, as in `text, "label"`."""
    header = first.rstrip("\r\n").split(delimiter)
    if len(header) > 1 and all(cell.startswith(" ") for cell in header[1:]):
        return True
    reader = csv.reader(sample.splitlines(keepends=True), delimiter=delimiter)
    try:
        suspect = any(_BLANK_QUOTE.match(cell) for cells in reader for cell in cells)
    except csv.Error:
        suspect = delimiter + ' "' in sample
    return suspect and _has_blank_quotes(sample, delimiter)


def _has_blank_quotes(text: str, delimiter: str) -> bool:
    """Say whether a quoted cell begins after a blank; within quotes, a blank is text."""
    in_quotes = False
    at_start, blanks = True, False
    for sign in text:
        if in_quotes:
            in_quotes = sign != '"'
        elif sign == '"':
            if blanks:
                return True
            in_quotes = True
        elif sign == " " and at_start:
            blanks = True
            continue
        at_start, blanks = not in_quotes and sign in (delimiter, "\n"), False
    return False


def _cells(line: str, delimiter: str) -> list[str]:
    reader = csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        return next(reader)
    except (csv.Error, StopIteration):
        return []


def _find_delimiter(first: str, needed: Sequence[str], usual: str) -> str:
    """Find the delimiter under which the first row names the columns that are needed.

    Raises:
        RecordError: no-header.
    """
    for delimiter in dict.fromkeys((usual, *_DELIMITERS)):
        cells = [cell.strip() for cell in _cells(first, delimiter)]
        if len(cells) > 1 and set(needed) <= set(cells):
            return delimiter
    shown = ", ".join(quoted(c.strip(), 40) for c in _cells(first, usual)[:8])
    raise _no_header(
        f"The first row does not name the columns {', '.join(map(repr, needed))}; it has {shown}."
    )


def _find_by_number(first: str, columns: int, usual: str) -> str:
    """Find the delimiter that gives as many cells as columns are named in the configuration.

    Raises:
        RecordError: no-header.
    """
    for delimiter in dict.fromkeys((usual, *_DELIMITERS)):
        if len(_cells(first, delimiter)) == columns:
            return delimiter
    raise _no_header(
        f"The first row is no header, and has not the {columns} cells that data.columns names."
    )


def _no_header(what: str) -> RecordError:
    return refuse_file(
        "no-header",
        what,
        "Put the column names into the first row, name them in order in data.columns, or set the "
        "names of the fields under [data].",
    )


def _records(
    lines: _Lines,
    reader: Any,
    needed: Sequence[str],
    notices: tuple[tuple[str, str], ...],
    columns: Sequence[str],
) -> Iterator[ParsedRow]:
    dialect = reader.dialect
    try:
        header = [cell.strip() for cell in next(reader)] if not columns else list(columns)
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
        number = lines.number if lines.has_put_back() else lines.number + 1
        try:
            cells, problem = _next_record(reader, lines, record + 1, number)
        except StopIteration:
            return
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
        if problem is None and [cell.strip() for cell in cells] == header:
            problem = RowProblem(
                "bad-columns",
                f"Record {record} (line {number}) is the header once more.",
                "Leave it out where files are put together.",
            )
        if problem is None and not dialect.skipinitialspace:
            problem = _blank_quote(cells, lines.head, dialect.delimiter, number)
        if lines.has_mark and INNER_MARK not in notices:
            notices, lines.has_mark = (*notices, INNER_MARK), False
        problem = lines.problem or problem
        if problem is not None:
            yield ParsedRow(number, problem=problem, raw=_shown(lines.head))
        else:
            yield ParsedRow(number, dict(zip(header, cells, strict=True)), warnings=notices)
            notices = ()


def _blank_quote(cells: list[str], raw: str, delimiter: str, number: int) -> RowProblem | None:
    """Find a cell whose quotes would be taken for text, in a file that is not written so."""
    if not any(cell[:1] == " " and _BLANK_QUOTE.match(cell) for cell in cells):
        return None
    if not _has_blank_quotes(raw, delimiter):
        return None
    return RowProblem(
        "bad-columns",
        f"On line {number} a blank stands before the quote that begins a cell.",
        "Take the blank away, or write one in the header too: then no cell keeps it.",
    )


def _next_record(
    reader: Iterator[list[str]], lines: _Lines, record: int, number: int
) -> tuple[list[str], RowProblem | None]:
    """Read a record; one that cannot be read is passed to its end, so that the next is whole.

    Raises:
        StopIteration: At the end.
    """
    where = f"Record {record}, which begins on line {number}"
    try:
        return next(reader), None
    except _RecordTooLong:
        problem = ("too-long", "is too long")
    except csv.Error as error:
        text = _said(str(error))
        problem = ("too-long" if "field limit" in text else "bad-columns", f"is unfit: {text}")
    last = lines.skip_record() if problem[0] == "too-long" else lines.number
    span = f"{where} and ends on line {last}," if last > number else f"{where},"
    hint = 'Close each quote; write a quote inside a cell twice: "".'
    if "a lone CR" in problem[1]:
        hint = "End all lines alike, with LF or with CR and LF, or quote the cell."
    if problem[0] == "too-long":
        hint = "Close the quotes, or raise data.limits.line_bytes in contlearn.toml."
    return [], RowProblem(problem[0], f"{span} {problem[1]}.", hint)


def _said(error: str) -> str:
    """Put what the csv module says into words for people who write files, not programs."""
    if "new-line character" in error:
        return "a lone CR, an old line end, stands in a cell without quotes"
    if error == "unexpected end of data":
        return "the file ends within quotes"
    return error


def _shown(text: str) -> str:
    shown = text[:ROW_BYTES].encode("utf-8", "surrogateescape")
    return shown.decode("utf-8", "backslashreplace").rstrip("\r\n")
