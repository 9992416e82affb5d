"""Excel and OpenDocument sheets, through python-calamine (the extra `excel`)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import ClassVar, Final

from contlearn.config import LimitsConfig
from contlearn.data.formats.streams import refuse_file, unpacked_file
from contlearn.errors import RecordError
from contlearn.interfaces import ParsedRow, RowProblem
from contlearn.wording import quoted

__all__ = ["ExcelRows"]

# Office documents are held in memory while they are read.
_MAX_UNPACKED: Final = 200_000_000


class ExcelRows:
    """Rows of the first sheet under a header."""

    name: ClassVar[str] = "excel"
    summary: ClassVar[str] = "Excel (.xlsx, .xlsb, .xls) and OpenDocument (.ods), first sheet"
    suffixes: ClassVar[tuple[str, ...]] = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ()
    ) -> Iterator[ParsedRow]:
        """Yield the rows below the header, numbered as the sheet numbers them."""
        try:
            import python_calamine  # noqa: F401 - only whether it is there
        except ImportError as error:
            raise refuse_file(
                "binary",
                "Reading Excel files needs python-calamine.",
                "Install it: pip install 'contlearn[excel]'",
            ) from error
        with unpacked_file(path, limits) as plain:
            lines = _read_sheet(plain, limits)
        yield from _rows(lines, needed)


def _read_sheet(path: Path, limits: LimitsConfig) -> Sequence[Sequence[object]]:
    import python_calamine

    _check_size(path, limits)
    try:
        book = python_calamine.CalamineWorkbook.from_path(path)
        lines: Sequence[Sequence[object]] = book.get_sheet_by_index(0).to_python(
            skip_empty_area=False
        )
    # A damaged file can also end a Rust function: PanicException is no Exception.
    except (python_calamine.CalamineError, OSError, ValueError, IndexError) as error:
        raise _damaged(error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged(error) from error
    return lines


def _damaged(error: BaseException) -> RecordError:
    return refuse_file(
        "binary", f"The file cannot be read as a sheet: {error}.", "Save it again as .xlsx."
    )


def _check_size(path: Path, limits: LimitsConfig) -> None:
    size = path.stat().st_size
    if size == 0:
        raise refuse_file("empty-file", "The file is empty.", "Put rows into it.")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(item.file_size for item in archive.infolist())
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise _damaged(error) from error
    if size > min(_MAX_UNPACKED, limits.unpacked_bytes):
        raise refuse_file("too-long", f"The sheet unpacks to {size:,} bytes.", "Save it as CSV.")


def _rows(lines: Sequence[Sequence[object]], needed: Sequence[str]) -> Iterator[ParsedRow]:
    header: list[str] | None = None
    for number, cells in enumerate(lines, start=1):
        if all(cell == "" for cell in cells):
            continue
        if header is None:
            header = [str(cell).strip() for cell in cells]
            if not set(needed) <= set(header):
                raise refuse_file(
                    "no-header",
                    f"The first row does not name the columns {', '.join(map(repr, needed))}; it "
                    f"has {', '.join(quoted(name, 40) for name in header[:8])}.",
                    "Put the column names into the first row.",
                )
            continue
        row: dict[str, object] = {}
        for name, cell in zip(header, cells, strict=False):
            if name and name in row:
                problem = RowProblem(
                    "duplicate-key", f"The column {name!r} stands twice.", "Keep one of them."
                )
                yield ParsedRow(number, problem=problem)
                break
            row[name] = (
                cell.isoformat()
                if isinstance(cell, datetime | date | time)
                else str(cell)
                if isinstance(cell, timedelta)
                else _text_of_number(cell)
            )
        else:
            yield ParsedRow(number, row)
    if header is None:
        raise refuse_file("empty-file", "The sheet is empty.", "Put rows into it.")


def _text_of_number(cell: object) -> object:
    """Give a number as text: in a sheet, whoever types 5 into a column of text gets a number."""
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return cell
    return str(int(cell)) if isinstance(cell, int) or cell.is_integer() else repr(cell)
