"""`python -m contlearn.data.formats.sheet FILE MOST_BYTES`: read the first sheet of a workbook.

A process of its own, with a bound on its memory: calamine holds every cell between the first and
the last one, so that a single cell far from the others asks for hundreds of gigabytes, and what it
is not given aborts the process. Prints JSON lines: [number, cells] for each row that holds
something, {} at the end, or {"reason", "error", "hint"}.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

__all__ = ["MEMORY_BYTES", "OUT_OF_MEMORY"]

MEMORY_BYTES: Final = 4 << 30
# An exit code; what Rust is not given ends by a signal instead.
OUT_OF_MEMORY: Final = 3
_CPU_SECONDS: Final = 300


class _Refused(Exception):
    """A reason code, what is wrong, what to do."""


def main(arguments: list[str]) -> None:
    """Print the rows, or why there are none."""
    for kind, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, _CPU_SECONDS)):
        with contextlib.suppress(ValueError, OSError):  # narrower already, or not to be had here
            resource.setrlimit(kind, (most, most))
    path, most_bytes = Path(arguments[0]), int(arguments[1])
    try:
        _check_size(path, most_bytes)
        for number, cells in enumerate(_rows(path), start=1):
            if any(cell != "" for cell in cells):
                _print([number, cells])
        _print({})
    except _Refused as error:
        _print(dict(zip(("reason", "error", "hint"), error.args, strict=True)))
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=_plain) + "\n")


def _plain(cell: object) -> str:
    return cell.isoformat() if isinstance(cell, datetime | date | time) else str(cell)


def _rows(path: Path) -> Iterator[list[Any]]:
    import python_calamine

    try:
        book = python_calamine.CalamineWorkbook.from_path(path)
        yield from book.get_sheet_by_index(0).iter_rows()
    # A damaged file can also end a Rust function: PanicException is no Exception.
    except (python_calamine.CalamineError, OSError, ValueError, IndexError) as error:
        raise _damaged(error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged(error) from error


def _damaged(error: BaseException) -> _Refused:
    return _Refused(
        "binary", f"The file cannot be read as a sheet: {error}.", "Save it again as .xlsx."
    )


def _check_size(path: Path, most_bytes: int) -> None:
    size = path.stat().st_size
    if size == 0:
        raise _Refused("empty-file", "The file is empty.", "Put rows into it.")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(item.file_size for item in archive.infolist())
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise _damaged(error) from error
    if size > most_bytes:
        raise _Refused("too-long", f"The sheet unpacks to {size:,} bytes.", "Save it as CSV.")


if __name__ == "__main__":
    main(sys.argv[1:])
