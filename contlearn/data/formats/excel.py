"""Excel and OpenDocument sheets, through python-calamine (the extra `excel`)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from contlearn.config import LimitsConfig
from contlearn.data.formats import sheet
from contlearn.data.formats.streams import refuse_file, unpacked_file
from contlearn.interfaces import ParsedRow, RowProblem
from contlearn.wording import quoted

__all__ = ["ExcelRows"]

# Office documents are held in memory while they are read, several times as large.
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
            yield from _rows(_read_sheet(plain, limits), needed)


def _read_sheet(path: Path, limits: LimitsConfig) -> Iterator[tuple[int, list[Any]]]:
    """Give the rows of the first sheet that hold something, read by a child.

    Raises:
        RecordError: When the file is no sheet, or too large.
    """
    most_bytes = min(_MAX_UNPACKED, limits.unpacked_bytes)
    command = [sys.executable, "-m", sheet.__name__, str(path.absolute()), str(most_bytes)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            for line in child.stdout or ():
                value = json.loads(line)
                if value == {}:
                    return
                if isinstance(value, dict):
                    raise refuse_file(value["reason"], value["error"], value["hint"])
                yield value[0], value[1]
            code = child.wait()
        finally:
            child.kill()
    if code not in (sheet.OUT_OF_MEMORY, *range(-64, 0)):
        raise RuntimeError(f"its reader ended with exit code {code}")
    raise refuse_file(
        "too-long",
        f"Reading the sheet took more than {sheet.MEMORY_BYTES >> 30} GB of memory, or longer than "
        "a sheet may take: it is enough that one cell stands far from the others.",
        "Delete everything below and to the right of the rows (Ctrl+End shows the last cell), or "
        "save it as CSV.",
    )


def _rows(
    lines: Iterable[tuple[int, Sequence[object]]], needed: Sequence[str]
) -> Iterator[ParsedRow]:
    header: list[str] | None = None
    for number, cells in lines:
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
            row[name] = _text_of_number(cell)
        else:
            yield ParsedRow(number, row)
    if header is None:
        raise refuse_file("empty-file", "The sheet is empty.", "Put rows into it.")


def _text_of_number(cell: object) -> object:
    """Give a number as text: in a sheet, whoever types 5 into a column of text gets a number."""
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return cell
    return str(int(cell)) if isinstance(cell, int) or cell.is_integer() else repr(cell)
