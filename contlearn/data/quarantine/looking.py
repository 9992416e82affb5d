"""The quarantine as a person works with it: counts, rows, and a sheet to correct."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from contlearn.workspace import (
    Workspace,
    narrowest,
    output_border,
    storage_border,
    write_bytes_atomic,
)

__all__ = [
    "OWN_COLUMNS",
    "QuarantinedRow",
    "export_quarantine",
    "guard_cell",
    "read_quarantine",
    "shown_cells",
    "unguard_cell",
]

# Columns of the sheet that tell where a row comes from; the others are the row's own fields.
OWN_COLUMNS: Final = ("quarantine_file", "line_number", "reason", "message", "hint", "source")
# What a spreadsheet takes for the beginning of a formula, and the guard itself.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "＝", "＋", "－", "＠")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """One refused row: the file it is kept in, where it stood, why it was refused."""

    file: str
    source: str
    line_number: int
    reason: str
    message: str
    hint: str
    row: str

    def to_json(self) -> dict[str, object]:
        """Give the row as `data quarantine --json` prints it."""
        return {
            "quarantine_file": self.file,
            "source": self.source,
            "line_number": self.line_number,
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "row": self.row,
        }

    def fields(self) -> dict[str, Any]:
        """Give the row's own fields; a row that is no object is one field `row`."""
        try:
            value = orjson.loads(self.row)
        except orjson.JSONDecodeError:
            return {"row": self.row}
        return value if isinstance(value, dict) else {"row": self.row}


def read_quarantine(
    workspace: Workspace, *, reason: str | None = None, source: str | None = None
) -> Iterator[QuarantinedRow]:
    """Give the refused rows, file by file, those of one reason or source if named."""
    with storage_border("read the quarantine", workspace.quarantine):
        for path in sorted(workspace.quarantine.glob("*.jsonl")):
            with path.open("rb") as lines:
                for line in lines:
                    value = orjson.loads(line)
                    row = QuarantinedRow(file=path.name, **value)
                    if reason in (None, row.reason) and source in (None, row.source):
                        yield row


def guard_cell(value: str) -> str:
    """Keep a spreadsheet from running a cell.

    Source: OWASP, "CSV Injection": cells that begin like a formula get a leading apostrophe.
    Example:
        >>> guard_cell("=1+1"), guard_cell("plain"), unguard_cell(guard_cell("'quoted'"))
        ("'=1+1", 'plain', "'quoted'")
    """
    return "'" + value if value.startswith(_FORMULA) else value


def unguard_cell(value: str) -> str:
    """Take the guard away again; an apostrophe that guards nothing is the text's own.

    Example:
        >>> unguard_cell("'=1+1"), unguard_cell("''tis"), unguard_cell("'tis")
        ('=1+1', "'tis", "'tis")
    """
    return value[1:] if value[:1] == "'" and value[1:].startswith(_FORMULA) else value


def shown_cells(row: QuarantinedRow) -> dict[str, str]:
    """Give the row's own fields as a sheet shows them; lists and numbers as JSON."""
    return {name: _cell(value) for name, value in row.fields().items()}


def export_quarantine(
    workspace: Workspace,
    target: Path,
    *,
    reason: str | None = None,
    source: str | None = None,
    own: Iterable[Path] = (),
) -> int:
    """Write refused rows as a CSV sheet: where each stood, why, and its fields to correct.

    Every cell is quoted, and one that a spreadsheet would run is guarded.

    Args:
        workspace: Whose rows they are.
        target: The sheet; it is replaced as a whole.
        reason: Only rows refused for this reason.
        source: Only rows of this file.
        own: Folders that are contlearn's alone.
    Returns:
        How many rows were written.
    Raises:
        UsageError: When nothing can be written there.
    """
    rows = list(read_quarantine(workspace, reason=reason, source=source))
    names = list(dict.fromkeys(name for row in rows for name in row.fields()))
    further = [name for name in names if name not in OWN_COLUMNS]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow([*OWN_COLUMNS, *map(guard_cell, further)])
    for row in rows:
        about, cells = row.to_json(), shown_cells(row)
        writer.writerow(
            [guard_cell(str(about[name])) for name in OWN_COLUMNS]
            + [guard_cell(cells.get(name, "")) for name in further]
        )
    mode = narrowest({workspace.quarantine / row.file for row in rows})
    with output_border(target, own):
        write_bytes_atomic(target, buffer.getvalue().encode("utf-8"), mode=mode)
    return len(rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
