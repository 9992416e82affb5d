"""The quarantine as a person works with it: counts, rows, a sheet to correct, and back in."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from contlearn.catalog import Catalog
from contlearn.config import Config
from contlearn.data.ingest import ingest_paths
from contlearn.data.report import FileReport, IngestReport
from contlearn.errors import UsageError
from contlearn.interfaces import Clock
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import FileOperations, Workspace, storage_border, write_bytes_atomic

__all__ = [
    "QuarantinedRow",
    "count_quarantine",
    "export_quarantine",
    "guard_cell",
    "ingest_corrected",
    "read_quarantine",
    "unguard_cell",
]

# Columns of the sheet that tell where a row comes from; the others are the row's own fields.
_OWN: Final = ("quarantine_file", "line_number", "reason", "message", "hint", "source")
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


def count_quarantine(workspace: Workspace) -> list[dict[str, object]]:
    """Count the refused rows by reason, with the files they came from, the commonest first."""
    counts: dict[str, int] = {}
    sources: dict[str, dict[str, int]] = {}
    for row in read_quarantine(workspace):
        counts[row.reason] = counts.get(row.reason, 0) + 1
        files = sources.setdefault(row.reason, {})
        files[row.source] = files.get(row.source, 0) + 1
    return [
        {"reason": reason, "rows": number, "files": sources[reason]}
        for reason, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def guard_cell(value: str) -> str:
    """Keep a spreadsheet from running a cell.

    Source: OWASP, "CSV Injection": cells that begin like a formula get a leading apostrophe.
    Example:
        >>> guard_cell("=1+1"), guard_cell("plain"), unguard_cell(guard_cell("'quoted'"))
        ("'=1+1", 'plain', "'quoted'")
    """
    return "'" + value if value.startswith(_FORMULA) else value


def unguard_cell(value: str) -> str:
    """Take the guard away again."""
    return value[1:] if value.startswith("'") else value


def export_quarantine(
    workspace: Workspace, target: Path, *, reason: str | None = None, source: str | None = None
) -> int:
    """Write refused rows as a CSV sheet: where each stood, why, and its fields to correct.

    Lists are written as JSON. Cells that a spreadsheet would run are guarded.

    Returns:
        How many rows were written.
    """
    rows = list(read_quarantine(workspace, reason=reason, source=source))
    names = list(dict.fromkeys(name for row in rows for name in row.fields()))
    own = [name for name in names if name not in _OWN]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow([*_OWN, *map(guard_cell, own)])
    for row in rows:
        about, fields = row.to_json() | {"quarantine_file": row.file}, row.fields()
        writer.writerow(
            [guard_cell(str(about[name])) for name in _OWN]
            + [guard_cell(_cell(fields.get(name))) for name in own]
        )
    write_bytes_atomic(target, buffer.getvalue().encode("utf-8"))
    return len(rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def ingest_corrected(
    workspace: Workspace,
    config: Config,
    catalog: Catalog,
    manager: PluginManager,
    sheet: Path,
    *,
    clock: Clock,
    files: FileOperations | None = None,
) -> IngestReport:
    """Take in the corrected rows of a sheet that `export_quarantine` wrote.

    Rows that are accepted now, or were known, leave the quarantine; the others stay in it.

    Raises:
        UsageError: When the sheet is not such a sheet.
    """
    rows = _read_sheet(sheet, manager, config)
    with tempfile.TemporaryDirectory() as folder:
        corrected = Path(folder) / f"corrected-{sheet.stem[:60]}.jsonl"
        corrected.write_bytes(b"".join(orjson.dumps(fields) + b"\n" for _, fields in rows))
        report = ingest_paths(
            workspace, config, catalog, manager, [corrected], clock=clock, files=files
        )
    done = report.files[0]
    still = _refused_lines(done)
    if done.verdict == "reject" and not still:
        return report
    settled: dict[str, set[int]] = {}
    for number, (place, _) in enumerate(rows, start=1):
        if number not in still:
            settled.setdefault(place[0], set()).add(place[1])
    for name, numbers in settled.items():
        _take_out(workspace.quarantine / name, numbers)
    # What was refused again stands in the quarantine once: under its first source.
    if done.quarantine is not None:
        Path(done.quarantine).unlink(missing_ok=True)
    return report


def _refused_lines(report: FileReport) -> set[int]:
    if report.quarantine is None:
        return set()
    lines = Path(report.quarantine).read_bytes().splitlines()
    return {int(orjson.loads(line)["line_number"]) for line in lines}


def _read_sheet(
    sheet: Path, manager: PluginManager, config: Config
) -> Sequence[tuple[tuple[str, int], Mapping[str, Any]]]:
    task = manager.get("task", config.model.task, where="model.task in contlearn.toml")()
    needed = task.needed_fields(config.data.field_names())
    # Spreadsheets like to write a byte order mark.
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = [unguard_cell(name) for name in reader.fieldnames or ()]
        missing = [n for n in ("quarantine_file", "line_number", *needed) if n not in names]
        if missing:
            raise UsageError(
                f"The sheet has no column {missing[0]!r}.",
                where=str(sheet),
                hint="Export the quarantine, correct the rows in that sheet, and add the fields "
                f"that are missing: {', '.join(needed)}.",
            )
        rows = []
        for cells in reader:
            row = {
                unguard_cell(name): unguard_cell(cell)
                for name, cell in cells.items()
                if isinstance(name, str) and isinstance(cell, str)
            }
            name, number = Path(row.pop("quarantine_file")).name, int(row.pop("line_number"))
            fields = {k: _value(v) for k, v in row.items() if k not in _OWN and v != ""}
            rows.append(((name, number), fields))
    return rows


def _value(cell: str) -> object:
    """Read a list that was written as JSON; everything else is text."""
    if cell.startswith("["):
        try:
            return orjson.loads(cell)
        except orjson.JSONDecodeError:
            return cell
    return cell


def _take_out(path: Path, numbers: set[int]) -> None:
    """Remove rows from a quarantine file; an empty one goes."""
    with storage_border(f"change {path.name}", path):
        if not path.exists():
            return
        kept = [
            line
            for line in path.read_bytes().splitlines()
            if orjson.loads(line)["line_number"] not in numbers
        ]
        if kept:
            write_bytes_atomic(path, b"\n".join(kept) + b"\n")
        else:
            path.unlink()
