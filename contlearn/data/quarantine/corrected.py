"""Refused rows that go in after all: corrected in a sheet, or read under another configuration.

Only what a person changed in a sheet is taken: a row that stands there as it was refused stays in
the quarantine, whatever a spreadsheet made of its numbers.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from contlearn.config import Config
from contlearn.data.formats.reading import find_parser
from contlearn.data.intake.ingest import ingest_paths
from contlearn.data.intake.known import known_labels
from contlearn.data.intake.place import Intake
from contlearn.data.intake.report import FileReport, IngestReport
from contlearn.data.quarantine.looking import (
    OWN_COLUMNS,
    QuarantinedRow,
    read_quarantine,
    shown_cells,
    unguard_cell,
)
from contlearn.errors import RecordError, UsageError
from contlearn.plugins.manager import PluginManager
from contlearn.tasks.rows import near_label
from contlearn.workspace import (
    Workspace,
    mode_of,
    narrow,
    narrowest,
    storage_border,
    write_bytes_atomic,
)

__all__ = ["accept_labels", "discard_quarantine", "ingest_corrected", "retry_quarantine"]

_PLACE: Final = ("quarantine_file", "line_number")
_LABEL_REASONS: Final = ("unknown-label", "bad-tag")
# So many names are looked through for the near one.
_MAX_NEAR: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row to take in, and where it stands in the quarantine."""

    file: str
    line_number: int
    fields: Mapping[str, Any]


def ingest_corrected(intake: Intake, sheet: Path) -> IngestReport:
    """Take in the corrected rows of a sheet that `export_quarantine` wrote.

    The sheet may be CSV with any delimiter, or what a spreadsheet saved it as. Rows that are
    accepted now, or were known, leave the quarantine; the others stay in it.

    Raises:
        UsageError: When the sheet is not such a sheet.
    """
    names = intake.config.data.field_names()
    needed = intake.task.needed_fields(names)
    rows = _read_sheet(sheet, intake.manager, intake.config, needed)
    refused = {(row.file, row.line_number): row for row in read_quarantine(intake.workspace)}
    candidates, unchanged = [], 0
    for place, cells in rows:
        fields = _corrected(refused.get(place), cells, lists=(names.tokens, names.tags))
        if fields is None:
            unchanged += 1
        else:
            candidates.append(_Candidate(*place, fields))
    report = _take(intake, candidates, f"corrected-{sheet.stem[:60]}", mode=mode_of(sheet))
    if unchanged and report.files:
        report.files[0].warnings.add(
            "unchanged", f"{unchanged} rows of the sheet are as they were refused; they stay."
        )
    return report


def retry_quarantine(
    intake: Intake, *, reason: str | None = None, source: str | None = None
) -> IngestReport:
    """Check refused rows once more: under a configuration that was changed since, they may be fine.

    Rows that are no JSON objects stay as they are; they want a correction.
    """
    candidates = []
    for row in read_quarantine(intake.workspace, reason=reason, source=source):
        fields = row.fields()
        if set(fields) != {"row"}:
            candidates.append(_Candidate(row.file, row.line_number, fields))
    return _take(intake, candidates, "retried")


def accept_labels(
    intake: Intake,
    accepted: Sequence[str],
    *,
    reason: str | None = None,
    source: str | None = None,
) -> IngestReport:
    """Let in the refused rows of new labels that are meant, or are slips of known ones.

    Args:
        intake: Whose quarantine it is, and how rows go in.
        accepted: `LABEL`: a label of its own. `LABEL=KNOWN`: its rows are taken as the known one's.
        reason: Only rows refused for this reason.
        source: Only rows of this file.
    Raises:
        UsageError: When no refused row has such a label, the known one is not known, or the set of
            labels is closed.
    """
    config, task = intake.config, intake.task
    fields = config.data.field_names()
    waiting: dict[str, list[_Candidate]] = {}
    for row in read_quarantine(intake.workspace, reason=reason, source=source):
        if row.reason in _LABEL_REASONS:
            item = _Candidate(row.file, row.line_number, row.fields())
            for label in task.labels_in(item.fields, fields):
                waiting.setdefault(label, []).append(item)
    with intake.catalog.read() as connection:
        known = {*known_labels(connection), *config.data.labels}
    meant: list[str] = []
    aliases: dict[str, str] = {}
    chosen: dict[tuple[str, int], _Candidate] = {}
    for text in accepted:
        label, _, other = (text, "", "") if text in waiting else text.partition("=")
        if label not in waiting:
            raise _unknown_wish(f"No refused row has the label {label!r}", label, waiting)
        if other and other not in known:
            raise _unknown_wish(f"There is no label {other!r}", other, known)
        if other:
            aliases[label] = other
        else:
            meant.append(label)
        chosen.update(((item.file, item.line_number), item) for item in waiting[label])
    if meant and config.data.labels and not config.data.allow_new_labels:
        raise UsageError(
            f"The set of labels is closed, and {meant[0]!r} is not in it.",
            where="data.labels in contlearn.toml",
            hint="Add it there, then run `contlearn data quarantine --retry`; or name the label "
            f"that it stands for: --accept {shlex.quote(meant[0] + '=KNOWN')}",
        )
    data = config.data.model_copy(
        update={
            "labels": (*config.data.labels, *meant),
            "allow_new_labels": config.data.allow_new_labels or bool(meant),
            "label_aliases": {**config.data.label_aliases, **aliases},
        }
    )
    other_rules = replace(intake, config=config.model_copy(update={"data": data}))
    return _take(other_rules, list(chosen.values()), "accepted")


def _unknown_wish(what: str, name: str, choices: Iterable[str]) -> UsageError:
    names = sorted(choices)
    near = near_label(name, names[:_MAX_NEAR])
    return UsageError(
        f"{what}." + (f" The nearest is {near!r}." if near else ""),
        where="--accept",
        hint="`contlearn data quarantine --reason unknown-label` lists refused rows, `contlearn "
        "data labels` the labels; nothing was taken in.",
    )


def discard_quarantine(
    workspace: Workspace, *, reason: str | None = None, source: str | None = None
) -> int:
    """Throw refused rows away for good; the archive keeps the files they came in.

    Returns:
        How many.
    """
    rows: dict[str, set[int]] = {}
    for row in read_quarantine(workspace, reason=reason, source=source):
        rows.setdefault(row.file, set()).add(row.line_number)
    for file, numbers in rows.items():
        _take_out(workspace.quarantine / file, numbers)
    return sum(map(len, rows.values()))


def _take(
    intake: Intake, candidates: Sequence[_Candidate], name: str, *, mode: int = 0o777
) -> IngestReport:
    quarantine = intake.workspace.quarantine
    if not candidates:
        report = FileReport(path=name)
        return IngestReport(files=[report], quarantine=str(quarantine), dry_run=intake.dry_run)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(item.fields) + b"\n" for item in candidates))
        narrow(path, mode & narrowest(quarantine / item.file for item in candidates))
        report_of_all = ingest_paths(intake, [path])
    done = report_of_all.files[0]
    still = _refused_lines(done)
    if intake.dry_run or still is None or (done.verdict == "reject" and not still):
        return report_of_all
    settled: dict[str, set[int]] = {}
    for number, item in enumerate(candidates, start=1):
        if number not in still:
            settled.setdefault(item.file, set()).add(item.line_number)
    for file, numbers in settled.items():
        _take_out(quarantine / file, numbers)
    # What was refused again stands in the quarantine once: under its first source.
    if done.quarantine is not None:
        Path(done.quarantine).unlink(missing_ok=True)
    return report_of_all


def _refused_lines(report: FileReport) -> set[int] | None:
    """Give the rows that were refused; None where an earlier run has settled the same rows."""
    if report.quarantine is None:
        return set()
    try:
        lines = Path(report.quarantine).read_bytes().splitlines()
    except FileNotFoundError:
        return None
    return {int(orjson.loads(line)["line_number"]) for line in lines}


def _read_sheet(
    sheet: Path, manager: PluginManager, config: Config, needed: Sequence[str]
) -> list[tuple[tuple[str, int], dict[str, str]]]:
    """Read a sheet as any other table: with its delimiter, its encoding, its format."""
    try:
        parser = find_parser(manager, sheet.name)
    except RecordError:
        parser = find_parser(manager, sheet.name, "csv")
    rows = []
    try:
        for parsed in parser.rows(sheet, config.data.limits, _PLACE):
            if parsed.problem is not None or parsed.row is None:
                what = "is empty" if parsed.problem is None else parsed.problem.message
                raise UsageError(
                    f"Row {parsed.number} of the sheet cannot be read: {what}",
                    where=str(sheet),
                    hint="Correct it; nothing was taken in.",
                )
            cells = {
                unguard_cell(str(name)): "" if value is None else unguard_cell(str(value))
                for name, value in parsed.row.items()
            }
            rows.append((_place_of(cells, parsed.number, sheet), cells))
    except RecordError as error:
        raise UsageError(
            f"The sheet cannot be read: {error.what}",
            where=str(sheet),
            hint="Export the quarantine with `contlearn data quarantine --export`, correct the "
            "rows in that sheet, and leave its first columns as they are. "
            f"Fields that are missing may be added: {', '.join(needed)}.",
        ) from error
    return rows


def _place_of(cells: dict[str, str], number: int, sheet: Path) -> tuple[str, int]:
    name, line = Path(cells.pop("quarantine_file")).name, cells.pop("line_number")
    try:
        # A spreadsheet may have made 17 of it, or 17.0.
        return name, int(float(line))
    except (ValueError, OverflowError):
        raise UsageError(
            f"Row {number} of the sheet has the line number {line!r}.",
            where=str(sheet),
            hint="Leave the column line_number as it was exported; nothing was taken in.",
        ) from None


def _corrected(
    row: QuarantinedRow | None, cells: Mapping[str, str], *, lists: Sequence[str]
) -> dict[str, Any] | None:
    """Give a row's fields with the cells that were changed; None where none was.

    A field that was left alone keeps its type: a number stays one. A row in conflict may be right
    as it is, once the other one was corrected or taken out of the sheet.
    """
    cells = {name: cell for name, cell in cells.items() if name not in OWN_COLUMNS and name}
    if row is None:
        return {
            name: _list_or_text(cell) if name in lists else cell
            for name, cell in cells.items()
            if cell != ""
        }
    before = shown_cells(row)
    changed = {
        name: cell for name, cell in cells.items() if _plain(cell) != _plain(before.get(name, ""))
    }
    if not changed:
        return row.fields() if row.reason == "conflict" else None
    fields = row.fields()
    if set(fields) == {"row"}:
        # A row that was no object: corrected as a whole, or given its fields one by one.
        fields = _as_object(changed.pop("row", ""))
    for name, cell in changed.items():
        if cell == "":
            fields.pop(name, None)
        elif name in lists or isinstance(fields.get(name), list):
            fields[name] = _list_or_text(cell)
        else:
            fields[name] = cell
    return fields


def _plain(cell: str) -> str:
    """Give what two forms of a cell have in common; spreadsheets change line ends."""
    return cell.replace("\r\n", "\n").strip()


def _as_object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"row": text} if text else {}
    return value if isinstance(value, dict) else {"row": text}


def _list_or_text(cell: str) -> object:
    """Read a list that was written as JSON, in a field that may hold one."""
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
            write_bytes_atomic(path, b"\n".join(kept) + b"\n", mode=mode_of(path))
        else:
            path.unlink()
