"""Rows that were refused: one line each, in a file a person can work with."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import orjson

from contlearn.types import RejectedRecord
from contlearn.wording import printable
from contlearn.workspace import FileOperations, fitting, new_private

__all__ = ["QuarantineWriter", "safe_name"]

# More than the longest text, so that what is refused can be corrected and taken in.
MAX_ROW_CHARACTERS: Final = 65_536
_BUFFERED: Final = 256


def safe_name(name: str) -> str:
    """Make a name that any file system and any shell takes, recognisable to a person.

    It leaves room for what is added to it, whatever its letters take.

    Example:
        >>> safe_name("../März 2025 (1).jsonl")
        '__März_2025_1_.jsonl'
    """
    return fitting(re.sub(r"[^\w.-]+|^\.+", "_", name).strip(".")[-80:], 200) or "file"


class QuarantineWriter:
    """Writes the refused rows of one file under a temporary name; `publish` makes it real.

    Args:
        folder: Where to.
        name: The file's, without its ending.
        files: How files are changed.
        mode: Who may read what the rows came from.
    """

    def __init__(
        self, folder: Path, name: str, files: FileOperations, *, mode: int = 0o777
    ) -> None:
        self.target = folder / f"{name}.jsonl"
        self._temporary = folder / f".{name}.jsonl.tmp"
        self._files = files
        self._mode = mode
        self._file: BinaryIO | None = None
        self._lines: list[bytes] = []
        self.count = 0

    def add(self, record: RejectedRecord) -> None:
        """Keep one row."""
        self._lines.append(
            orjson.dumps(
                {
                    "source": record.source,
                    "line_number": record.line_number,
                    "reason": record.reason,
                    "message": _clean(record.message),
                    "hint": _clean(record.hint),
                    "row": _clean(record.row, MAX_ROW_CHARACTERS),
                }
            )
        )
        self.count += 1
        if len(self._lines) >= _BUFFERED:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._temporary.unlink(missing_ok=True)
            self._mode &= new_private(self._temporary)
            self._file = self._temporary.open("wb")
        self._file.write(b"\n".join(self._lines) + b"\n")
        self._lines.clear()

    def publish(self) -> Path | None:
        """Make the file real; without a row in it, take away what an earlier reading left."""
        if self.count == 0:
            self._files.unlink(self.target)
            return None
        if self._lines:
            self._write()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        self._files.set_mode(self._temporary, self._mode | 0o600)
        self._files.rename(self._temporary, self.target)
        self._files.fsync_folder(self.target.parent)
        return self.target

    def __enter__(self) -> QuarantineWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def _clean(text: str, limit: int = 1000) -> str:
    """Escape what JSON or a terminal would choke on, and bound the length."""
    if text.isprintable() and len(text) <= limit:
        return text
    safe = text[: limit + 1].encode("utf-8", "backslashreplace").decode("utf-8")
    if "\n" in safe and all(c.isprintable() or c in "\n\t" for c in safe):
        return safe[:limit] + ("…" if len(safe) > limit else "")
    return printable(safe, limit)


def row_text(row: Any) -> str:
    """Show a parsed row as JSON, as far as it can be."""
    try:
        return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        return repr(row)
