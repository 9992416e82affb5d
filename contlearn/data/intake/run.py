"""One run of taking files in: its lock, its staging folder, and one file after the other.

    archive    a copy under the content's hash; what is parsed is the copy
    read       every row parsed and checked → a staged segment and 16 bytes a row in memory
    decide     duplicates, conflicts, sides; against the catalog too
    write      quarantine file and segment: flush, rename
    commit     one transaction: the file's row and its records

A kill before the commit leaves files that nothing points to and that the next run writes again
under the same names; after it, the content is known and taking it in again changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import stat
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.records import counting_ids
from contlearn.catalog.schema import files as file_table
from contlearn.catalog.schema import records
from contlearn.config import Config
from contlearn.data.archive import (
    archive_copy,
    archived,
    content_hash,
    is_redacted,
    prefix_hash,
    redacted_path,
    suffixes_of,
)
from contlearn.data.forgetting import finish_forgetting
from contlearn.data.formats.reading import find_parser
from contlearn.data.formats.streams import named_hint, refuse_file
from contlearn.data.intake.commit import insert_file
from contlearn.data.intake.file import FileIntake
from contlearn.data.intake.inbox import may_read
from contlearn.data.intake.place import Intake, IntakePlace, OneFile
from contlearn.data.intake.report import FileReport, IngestReport, say_forgotten
from contlearn.errors import RecordError
from contlearn.interfaces import RecordParser
from contlearn.plugins.manager import PluginManager
from contlearn.version import __version__
from contlearn.workspace import FileOperations, Workspace, file_lock, mode_of

__all__ = ["IntakeRun", "shown_name"]

_LOCK_SECONDS: Final = 600.0
# A claimed file whose reader died this often is refused. Readers die of other causes too (a
# restart, the memory of another program), so it takes many, and the untried files go first.
_MAX_TRIES: Final = 50
# Earlier files of one name that a file is compared with: it may be one of them, appended to.
_MAX_EARLIER: Final = 3


class IntakeRun:
    """All files of one run, one after the other, under one lock."""

    def __init__(self, place: IntakePlace) -> None:
        self._place, self._intake, intake = place, place.intake, place.intake
        self._progress, self._format = intake.progress, intake.format
        self.config, self.manager = intake.config, intake.manager
        self.files, self.catalog, self.staging = intake.files, intake.catalog, place.staging
        self.root, self.dry_run = intake.workspace.root, intake.dry_run
        self.settings = place.settings
        self.reports: list[FileReport] = []

    @classmethod
    @contextlib.contextmanager
    def opened(cls, intake: Intake) -> Iterator[IntakeRun]:
        """Look the task up, take the lock, and clear away what a killed run had staged."""
        workspace, files = intake.workspace, intake.files
        intake.task  # noqa: B018  # one that is not known is told before anything is touched
        with contextlib.ExitStack() as stack:
            if intake.dry_run:
                staging = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            else:
                workspace.make_folders()
                stack.enter_context(
                    file_lock(
                        workspace.state / "ingest.lock",
                        what="taking files in",
                        wait_seconds=_LOCK_SECONDS,
                    )
                )
                staging = workspace.records / ".staging"
                if staging.exists():
                    _clear_after_kill(workspace, intake.catalog, files)
                finish_forgetting(
                    workspace, intake.config, intake.catalog, intake.manager, files=files
                )
                files.make_folder(staging)
                files.set_mode(staging, 0o700)  # texts are written there first
                stack.callback(files.remove_tree, staging)
            yield cls(
                IntakePlace(
                    intake=intake,
                    staging=staging,
                    received_at=intake.clock.now(),
                    settings=_settings(intake.config, intake.manager, intake.format or ""),
                )
            )

    def report(self, *, waiting: int = 0) -> IngestReport:
        """Say what became of all files; `waiting` are those that are still written to."""
        written = {report.quarantine for report in self.reports if report.quarantine is not None}
        # The file itself where there is one only, else the folder of all.
        folder = str(self._intake.workspace.quarantine)
        return IngestReport(
            files=self.reports,
            quarantine=written.pop() if len(written) == 1 else folder,
            waiting=waiting,
            dry_run=self.dry_run,
        )

    def is_held_out(self, name: str) -> bool:
        """Say whether the configuration names a file as one to measure on."""
        return any(fnmatch(name, pattern) for pattern in self.config.data.held_out_files)

    def take(
        self,
        path: Path,
        *,
        held_out: bool,
        place: tuple[int, int],
        in_inbox: bool = False,
        tries: int = 0,
        parser: RecordParser | None = None,
        reading: str = "",
    ) -> FileReport:
        """Take in one file, or find that it was taken in before, or refuse it.

        Args:
            path: The file.
            held_out: All its rows are to be measured on.
            place: Which file of how many this is.
            in_inbox: It is in the inbox or claimed: links are refused, the name alone is shown.
            tries: How many readers it has ended already.
            parser: What reads it, where its name does not tell.
            reading: What that parser does besides, where the same content could be read otherwise.
        Returns:
            What became of it; it is among the reports of the run.
        """
        done, total = place
        self._progress("ingesting", done, total, path.name)
        report = FileReport(path=shown_name(path.name if in_inbox else path))
        self.reports.append(report)
        source, file = path, None
        try:
            _refuse_no_file(path, follow=not in_inbox)
            if self._intake.dry_run:
                digest = content_hash(path)
            else:
                digest, source = archive_copy(self._intake.workspace, path, self.files)
            file = OneFile(
                name=shown_name(path.name),
                content_hash=digest,
                held_out=held_out,
                mode=mode_of(source),
            )
            # The ending decides how a content is read: under another one it is another file.
            endings = suffixes_of(path.name) if self._format is None else self._format
            reading = reading or endings
            if self._intake.bring_back:
                # The content may have come before: it is read again, as another file.
                reading += f", brought back {self._times_taken(digest)}"
            settings = _settings(self.config, self.manager, reading)
            intake_place = dataclasses.replace(self._place, settings=settings)
            if not self._intake.bring_back and self._known(file, intake_place, report):
                if not self._intake.dry_run and is_redacted(self._intake.workspace, digest):
                    # The archive keeps this content without what was forgotten of it.
                    self.files.unlink(source)
                return report
            if tries >= _MAX_TRIES:
                raise refuse_file(
                    "binary",
                    f"Reading it ended the process {tries} times.",
                    f"A copy is in {source}; please report it. Nothing of the file was used.",
                )
            parser = parser or find_parser(
                self.manager, path.name, self._format, columns=self.config.data.columns
            )
            intake = FileIntake(
                intake_place,
                file,
                advance=lambda rows: self._progress(
                    "ingesting", done, total, f"{path.name}: {rows:,} rows"
                ),
                known_rows=self._rows_known_before(file, intake_place, source, parser),
            )
            intake.run(parser, source, report)
            if self._intake.bring_back and not self._intake.dry_run:
                self.files.unlink(redacted_path(self._intake.workspace, digest))
        except RecordError as error:
            _refuse_whole(report, error)
            if not self._intake.dry_run and file is not None:
                with self._intake.catalog.write() as connection:
                    insert_file(connection, intake_place, file, report, None)
        self._progress("ingesting", done + 1, total, path.name)
        return report

    def _known(self, file: OneFile, place: IntakePlace, report: FileReport) -> bool:
        """Report on a content that was taken in before: nothing changes."""
        query = (
            sa.select(file_table)
            .where(
                file_table.c.content_hash == file.content_hash,
                file_table.c.held_out == file.held_out,
            )
            .order_by(file_table.c.file_id.desc())
        )
        with self._intake.catalog.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            # With other settings, rows that were refused may be fine now.
            if row.settings != place.settings and row.verdict != "ok":
                continue
            report.known, report.verdict = True, row.verdict
            report.reason, report.message = row.reason, row.message
            report.rows, report.rejected = row.rows, row.rejected
            report.conflicts = row.conflicts
            report.duplicates = row.accepted + row.duplicates
            if row.quarantine is not None:
                report.quarantine = str(self._intake.workspace.quarantine / row.quarantine)
            report.warnings.add("known-file", f"This content was taken in before, as {row.name!r}.")
            forgotten = self._gone_of(int(row.file_id), "forgotten")
            if forgotten:
                say_forgotten(report, forgotten)
            superseded = self._gone_of(int(row.file_id), "superseded")
            if superseded:
                report.warnings.add(
                    "superseded",
                    f"{superseded} of its labels gave way to newer ones, and stay so.",
                    hint="To take a correction back, put the rows into a file of their own and "
                    "take it in with --on-conflict newest.",
                )
            return True
        return False

    def _times_taken(self, digest: str) -> int:
        """Count how often a content was taken in."""
        query = sa.select(sa.func.count()).where(file_table.c.content_hash == digest)
        with self.catalog.read() as connection:
            return int(connection.execute(query).scalar_one())

    def _gone_of(self, file_id: int, state: str) -> int:
        """Count the records of a file that are in a state for good, and did not come again."""
        query = sa.select(records.c.record_id).where(
            records.c.file_id == file_id, records.c.state == state
        )
        with self.catalog.read() as connection:
            gone = list(connection.execute(query).scalars())
            again = counting_ids(connection, self.catalog.ids, gone) if gone else ()
        return len(gone) - len(again)

    def _rows_known_before(
        self, file: OneFile, place: IntakePlace, source: Path, parser: RecordParser
    ) -> int:
        """Say how many rows at the beginning are those of an earlier file that was appended to.

        The last row of the earlier file counts only where nothing can have been added to it.
        """
        if parser.name not in ("jsonl", "csv", "tsv", "conll") or self._intake.bring_back:
            return 0
        query = (
            sa.select(file_table.c.content_hash, file_table.c.rows)
            .where(
                file_table.c.name == file.name,
                file_table.c.held_out == file.held_out,
                file_table.c.settings == place.settings,
                file_table.c.rows > 0,
            )
            .order_by(file_table.c.file_id.desc())
            .limit(_MAX_EARLIER)
        )
        with self._intake.catalog.read() as connection:
            earlier = connection.execute(query).all()
        for row in earlier:
            old = archived(self._intake.workspace, row.content_hash, file.name)
            size = old.stat().st_size if old is not None else 0
            if old is None or not 0 < size < source.stat().st_size:
                continue
            digest, last = prefix_hash(source, size)
            if digest == row.content_hash:
                is_whole = parser.name == "jsonl" and last == b"\n"
                return int(row.rows) - (not is_whole)
        return 0


def _clear_after_kill(workspace: Workspace, catalog: Catalog, files: FileOperations) -> None:
    """Take away what a killed run left that nothing points to. The lock is held."""
    with catalog.read() as connection:
        query = sa.select(file_table.c.segment).where(file_table.c.segment.is_not(None))
        known = set(connection.execute(query).scalars())
    for segment in workspace.records.glob("*.parquet"):
        if segment.name not in known:
            files.unlink(segment)
    for left in (
        *workspace.archive.rglob(".*.tmp"),
        *workspace.quarantine.glob(".*.tmp"),
        *workspace.records.glob(".*.tmp"),
        *catalog.ids.leftovers(),
    ):
        files.unlink(left)
    files.remove_tree(workspace.records / ".staging")


def _settings(config: Config, manager: PluginManager, format: str) -> str:
    """Hash what the outcome of reading a file depends on besides its content."""
    value = {
        "version": __version__,
        "task": config.model.task,
        "data": config.data.model_dump(mode="json"),
        "parsers": sorted(manager.table("parser")),
        "format": format,
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def shown_name(path: Path | str) -> str:
    """Give a name as text that can be stored, whatever bytes it has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse_no_file(path: Path, *, follow: bool) -> None:
    mode = (path.stat() if follow else path.lstat()).st_mode
    if stat.S_ISDIR(mode):
        raise refuse_file(
            "is-directory",
            f"{shown_name(path.name)!r} is a folder, not a file.",
            "Name the files in it, or put them into the inbox one by one.",
        )
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
        raise refuse_file(
            "not-a-file",
            f"{shown_name(path.name)!r} is {kind}.",
            "Copy the file itself into the inbox.",
        )
    if not may_read(path):
        raise refuse_file(
            "unreadable",
            f"This user may not read {shown_name(path.name)!r}.",
            "Give it the right to (chmod a+r), then run the same command again.",
        )


def _refuse_whole(report: FileReport, error: RecordError) -> None:
    """Turn a report into one of a file of which nothing was used."""
    report.verdict = "reject"
    report.rows = report.accepted = report.duplicates = report.conflicts = report.rejected = 0
    report.held_out = 0
    hint = named_hint(error.hint or "", report.path.rpartition("/")[2])
    report.reason, report.message, report.hint = error.where, error.what, hint
    report.quarantine = None
    report.problems.counts.clear()
    report.problems.examples.clear()
    report.problems.add(error.where or "", error.what, hint=hint)
