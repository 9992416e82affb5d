"""Forgetting records for good: their texts leave every file that contlearn keeps.

    1  catalog      the records are `forgotten`: no later training or measuring reads them
    2  archive      a file that held one of the texts becomes a redacted copy without those rows
    3  quarantine   refused rows with one of the texts go
    4  predictions  logged texts that are one of them go
    5  reports      pages that show one of the texts show it no longer
    6  segments     their rows are emptied; the others keep their positions
    7  catalog      the records are marked as cleared

The segments come last: until then a run that was killed can read the texts again to look for them.

A kill after step 1 leaves records that are not cleared yet: `finish_forgetting` goes on with them,
and every ingest begins with it. Versions and buffers hold ids alone, so nothing of the text is in
them; `contlearn show` says how many of the records a version has learnt are forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa

from contlearn.arguments import require_several
from contlearn.cards import clear_cards
from contlearn.catalog import Catalog
from contlearn.catalog.ids import HEAD_DIGITS
from contlearn.catalog.rows import chunks
from contlearn.catalog.schema import files as file_table
from contlearn.catalog.schema import records
from contlearn.config import Config
from contlearn.data.archive import redacted_name
from contlearn.data.formats.reading import find_parser
from contlearn.data.formats.streams import open_unpacked
from contlearn.data.intake.checking import TEXT_BYTES, text_digest
from contlearn.data.intake.known import TEXT_DIGITS
from contlearn.data.quarantine.looking import unguard_cell
from contlearn.data.segments import empty_rows, read_rows
from contlearn.errors import RecordError
from contlearn.plugins.manager import PluginManager
from contlearn.tasks.rows import normal_text
from contlearn.tasks.spans import split_words
from contlearn.types import Inputs
from contlearn.workspace import (
    FileOperations,
    Workspace,
    file_lock,
    mode_of,
    new_private,
    storage_border,
    write_bytes_atomic,
)

__all__ = [
    "ForgetReport",
    "Forgotten",
    "finish_forgetting",
    "forget_records",
    "redact_archived",
]

# What stands in a forgotten record's reason until its texts are gone.
_CLEARING: Final = "forgetting: "
_MIN_RAW_CHARACTERS: Final = 8
_CHUNK: Final = 1 << 20
_LOCK_SECONDS: Final = 600.0


@dataclass
class ForgetReport:
    """What was forgotten, and in how many files something had to be taken out."""

    records: int = 0
    segments: int = 0
    archived: int = 0
    quarantined_rows: int = 0
    predictions: int = 0
    reports: int = 0
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Give the fields of `data forget --json`."""
        return {
            "forgotten": self.records,
            "segments": self.segments,
            "archived": self.archived,
            "quarantined_rows": self.quarantined_rows,
            "predictions": self.predictions,
            "reports": self.reports,
            "notes": list(self.notes),
        }


def forget_records(
    workspace: Workspace,
    config: Config,
    catalog: Catalog,
    manager: PluginManager,
    record_ids: Sequence[str],
    *,
    reason: str,
    dry_run: bool = False,
    files: FileOperations | None = None,
) -> ForgetReport:
    """Forget records and take their texts out of everything that is kept.

    Args:
        workspace: Where.
        config: The configuration.
        catalog: The catalog, open.
        manager: Where the parsers come from that read the archive.
        record_ids: Which; `selection.select_records` finds them.
        reason: Why; stays with the records.
        dry_run: Only count the records.
        files: The file operations.
    Raises:
        StorageError: When something could not be written; run it again, or any ingest, to go on.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    require_several(record_ids, what="record", where="forget")
    if dry_run:
        with catalog.read() as connection:
            named, superseded = _rows_to_forget(connection, catalog, record_ids)
        return ForgetReport(len(named), notes=_with_superseded(len(superseded), "would be"))
    operations = files or FileOperations()
    with file_lock(
        workspace.state / "ingest.lock", what="taking files in", wait_seconds=_LOCK_SECONDS
    ):
        with catalog.write() as connection:
            named, superseded = _rows_to_forget(connection, catalog, record_ids)
            for some in chunks([*named, *superseded]):
                connection.execute(
                    records.update()
                    .where(records.c.seq.in_(some))
                    .values(state="forgotten", reason=_CLEARING + reason, part=None)
                )
        report = finish_forgetting(workspace, config, catalog, manager, files=operations)
        report.records = len(named)
        report.notes += _with_superseded(len(superseded), "are")
        return report


def _with_superseded(number: int, verb: str) -> list[str]:
    if not number:
        return []
    which = "earlier labels of the same texts, which had given way to newer ones,"
    return [f"{number} {which} {verb} forgotten with them"]


def _rows_to_forget(
    connection: sa.Connection, catalog: Catalog, record_ids: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Give the rows of these records, and those of labels that were superseded on their texts.

    The second hold the same texts, and nobody would think of them: with the newest label forgotten
    a text has none that counts.
    """
    import numpy as np

    wanted = catalog.ids.find_ids(connection, record_ids).keys()
    texts = {record_id[:TEXT_DIGITS] for record_id in wanted}
    heads = np.unique(np.array([int(text[:HEAD_DIGITS], 16) for text in texts], dtype=np.uint64))
    rows, _ = catalog.ids.find(connection, heads)
    named, superseded = [], []
    columns = (records.c.seq, records.c.record_id, records.c.state)
    query = sa.select(*columns).where(records.c.state != "forgotten")
    for some in chunks(np.sort(rows).tolist()):
        for row in connection.execute(query.where(records.c.seq.in_(some))):
            if row.record_id in wanted:
                named.append(int(row.seq))
            elif row.state == "superseded" and row.record_id[:TEXT_DIGITS] in texts:
                superseded.append(int(row.seq))
    return named, superseded


def finish_forgetting(
    workspace: Workspace,
    config: Config,
    catalog: Catalog,
    manager: PluginManager,
    *,
    files: FileOperations,
) -> ForgetReport:
    """Clear the texts of records that are forgotten but not cleared yet. The lock is held."""
    report = ForgetReport()
    with catalog.read() as connection:
        rows = connection.execute(
            sa.select(
                records.c.record_id,
                records.c.row,
                file_table.c.segment,
            )
            .join(file_table, file_table.c.file_id == records.c.file_id)
            .where(records.c.state == "forgotten", records.c.reason.startswith(_CLEARING))
        ).all()
    if not rows:
        return report
    by_segment: dict[str, list[int]] = {}
    for row in rows:
        by_segment.setdefault(str(row.segment), []).append(int(row.row))
    model = config.model
    task = manager.task(model.task, model.task_options, where="model.task")
    inputs = list(_inputs_of(workspace, by_segment))
    forgotten = Forgotten(
        (bytes.fromhex(row.record_id)[:TEXT_BYTES] for row in rows),
        (v if isinstance(v, str) else " ".join(v) for item in inputs for v in item.values()),
        shown=map(task.text_of, inputs),
    )
    with storage_border("forget records", workspace.state):
        _clear_archive(workspace, config, manager, forgotten, report, files)
        _clear_quarantine(workspace, forgotten, report, files)
        _clear_predictions(workspace, forgotten, report, files)
        _clear_reports(workspace, forgotten, report, files)
        for segment, places in by_segment.items():
            _clear_segment(workspace.records / segment, places, files)
            report.segments += 1
    with catalog.write() as connection:
        connection.execute(
            records.update()
            .where(records.c.state == "forgotten", records.c.reason.startswith(_CLEARING))
            .values(reason=sa.func.substr(records.c.reason, len(_CLEARING) + 1))
        )
    return report


def _inputs_of(workspace: Workspace, by_segment: Mapping[str, Sequence[int]]) -> Iterator[Inputs]:
    """Give the inputs, as far as no earlier run has cleared them."""
    for segment, places in by_segment.items():
        for row in read_rows(workspace.records / segment, sorted(places)):
            if row.inputs is not None:
                yield row.inputs


class Forgotten:
    """The texts that are forgotten: their digests, and where they are still known, themselves.

    Args:
        digests: Of the normalised texts.
        texts: To look for in what cannot be parsed; short ones would be found everywhere.
        shown: What the task shows of the records (`text_of`), as the server logs it.
    """

    def __init__(
        self, digests: Iterable[bytes], texts: Iterable[str] = (), *, shown: Iterable[str] = ()
    ) -> None:
        self._digests = frozenset((*digests, *map(_digest, shown))) - {None}
        self._raw: list[bytes] = []
        for text in texts:
            if len(text) >= _MIN_RAW_CHARACTERS:
                forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
                self._raw += [form.encode("utf-8", "surrogatepass") for form in forms]
        self.longest = max(map(len, self._raw), default=0)

    def in_bytes(self, data: bytes) -> bool:
        """Say whether one of them stands in bytes that are no row."""
        return any(form in data for form in self._raw)

    def holds(self, text: str) -> bool:
        """Say whether a text is one of them."""
        return _digest(text) in self._digests

    def holds_id(self, record_id: str) -> bool:
        """Say whether a record has one of them: its id begins with the digest of its text."""
        try:
            return bytes.fromhex(record_id)[:TEXT_BYTES] in self._digests
        except ValueError:
            return False

    def in_row(self, row: object) -> bool:
        """Say whether any value of a row is one of them; words are joined as records are."""
        if isinstance(row, str):
            # A guarded cell, a text of which only the words are kept, and what was kept of a row
            # that could not be read.
            return (
                any(map(self.holds, {row, unguard_cell(row)}))
                or self._holds_joined("\x1f".join(row[a:b] for a, b in split_words(row)))
                or self.in_bytes(row.encode("utf-8", "surrogatepass"))
            )
        if isinstance(row, Mapping):
            return any(self.in_row(value) for value in row.values())
        if isinstance(row, Sequence) and not isinstance(row, bytes):
            words = [item for item in row if isinstance(item, str)]
            joined = "\x1f".join(map(normal_text, words))
            is_one = bool(words) and len(words) == len(row) and self._holds_joined(joined)
            return is_one or any(self.in_row(item) for item in row)
        return False

    def _holds_joined(self, joined: str) -> bool:
        try:
            return text_digest(joined) in self._digests
        except UnicodeEncodeError:
            return False


def _digest(text: str) -> bytes | None:
    """Hash a text as records are; None for one that no record can have."""
    try:
        return text_digest(normal_text(text))
    except UnicodeEncodeError:
        return None


def _clear_segment(path: Path, places: Sequence[int], files: FileOperations) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    default = new_private(temporary)
    empty_rows(path, temporary, frozenset(places))
    files.set_mode(temporary, default & mode_of(path) | 0o600)
    files.fsync_file(temporary)
    files.rename(temporary, path)
    files.fsync_folder(path.parent)


def _clear_archive(
    workspace: Workspace,
    config: Config,
    manager: PluginManager,
    forgotten: Forgotten,
    report: ForgetReport,
    files: FileOperations,
) -> None:
    """Read every archived file again; one that holds a forgotten text is kept without it."""
    for path in sorted(workspace.archive.glob("[0-9a-f][0-9a-f]/*")):
        if path.name.startswith("."):
            continue
        try:
            if redact_archived(path, config, manager, forgotten, files):
                report.archived += 1
        except RecordError:
            # A file that was refused whole: nothing of it was ever used.
            if _raw_holds(path, config, forgotten):
                files.unlink(path)
                report.archived += 1
            else:
                report.notes.append(f"{path.name} cannot be read; the texts were not found in it")


def redact_archived(
    path: Path,
    config: Config,
    manager: PluginManager,
    forgotten: Forgotten,
    files: FileOperations,
) -> bool:
    """Take forgotten texts out of one archived file; say whether there were any.

    Raises:
        RecordError: When the file cannot be read.
    """
    if not any(forgotten.in_row(value) for value in _archived_rows(path, config, manager)):
        return False
    _redact(path, config, manager, forgotten, files)
    return True


def _raw_holds(path: Path, config: Config, forgotten: Forgotten) -> bool:
    """Look for the texts in the bytes of a file, as far as they can be unpacked."""
    for unpack in (True, False):
        before = b""
        try:
            stream, file = (
                open_unpacked(path, config.data.limits) if unpack else (2 * (path.open("rb"),))
            )
            with file:
                while data := stream.read(_CHUNK):
                    if forgotten.in_bytes(before + data):
                        return True
                    before = data[-forgotten.longest :] if forgotten.longest else b""
        except RecordError:
            continue
    return False


def _archived_rows(path: Path, config: Config, manager: PluginManager) -> Iterator[Any]:
    """Give each row of an archived file: its fields, or what was read of one that was wrong."""
    name = "rows.jsonl" if path.name == redacted_name(path.name[:64]) else path.name
    for parsed in find_parser(manager, name, columns=config.data.columns).rows(
        path, config.data.limits
    ):
        yield parsed.row if parsed.row is not None else parsed.raw


def _redact(
    path: Path,
    config: Config,
    manager: PluginManager,
    forgotten: Forgotten,
    files: FileOperations,
) -> None:
    """Replace an archived file by its rows without the forgotten ones, as JSON lines."""
    target = path.with_name(redacted_name(path.name[:64]))
    temporary = path.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    default, mode = new_private(temporary), mode_of(path)
    with temporary.open("wb") as file:
        for value in _archived_rows(path, config, manager):
            if not forgotten.in_row(value):
                row = value if isinstance(value, Mapping) else {"unreadable": value}
                file.write(_as_json(row) + b"\n")
    files.fsync_file(temporary)
    files.set_mode(temporary, default & (mode | 0o600))
    files.rename(temporary, target)
    if target != path:
        files.unlink(path)
    files.fsync_folder(path.parent)


def _as_json(row: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return json.dumps(repr(row)).encode()


def _clear_quarantine(
    workspace: Workspace, forgotten: Forgotten, report: ForgetReport, files: FileOperations
) -> None:
    def unless_forgotten(value: dict[str, Any]) -> dict[str, Any] | None:
        try:
            row = orjson.loads(value["row"])
        except orjson.JSONDecodeError:
            row = value["row"]
        return None if forgotten.in_row(row) else value

    for path in sorted(workspace.quarantine.glob("*.jsonl")):
        report.quarantined_rows += _rewrite(path, unless_forgotten, files)


def _clear_predictions(
    workspace: Workspace, forgotten: Forgotten, report: ForgetReport, files: FileOperations
) -> None:
    def without_text(value: dict[str, Any]) -> dict[str, Any]:
        text = value.get("text")
        if isinstance(text, str) and forgotten.in_row(text):
            return {name: item for name, item in value.items() if name != "text"}
        return value

    for path in sorted(workspace.predictions.rglob("*.jsonl")):
        report.predictions += _rewrite(path, without_text, files)


def _clear_reports(
    workspace: Workspace, forgotten: Forgotten, report: ForgetReport, files: FileOperations
) -> None:
    """Empty the cards of forgotten records in every page, also in one of a cycle under way."""
    pages = (
        *workspace.reports.glob("*.html"),
        *(workspace.state / "reports").glob("*.html"),
        *workspace.cycles.glob("*/report.html"),
    )
    for path in pages:
        page, cleared = clear_cards(path.read_text(encoding="utf-8"), forgotten.holds_id)
        if cleared:
            report.reports += 1
            write_bytes_atomic(path, page.encode(), files=files, mode=mode_of(path))


def _rewrite(
    path: Path,
    change: Callable[[dict[str, Any]], dict[str, Any] | None],
    files: FileOperations,
) -> int:
    """Change the lines of a JSONL file; None removes one. Give how many were changed."""
    changed, lines = 0, []
    for line in path.read_bytes().splitlines():
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            lines.append(line)
            continue
        new = change(value)
        if new is value:
            lines.append(line)
            continue
        changed += 1
        if new is not None:
            lines.append(orjson.dumps(new))
    if changed:
        data = b"".join(line + b"\n" for line in lines)
        write_bytes_atomic(path, data, files=files, mode=mode_of(path))
    return changed
