"""Taking files in: parse, check, decide, write the segment, and commit; all or nothing a file.

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
import hashlib
import json
import stat
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from contlearn import __version__
from contlearn.catalog import Catalog
from contlearn.catalog.schema import files as file_table
from contlearn.config import Config
from contlearn.data.archive import archive_copy, content_hash
from contlearn.data.commit import insert_file
from contlearn.data.forgetting import finish_forgetting
from contlearn.data.inbox import (
    claim_rested,
    count_try,
    is_open_for_writing,
    list_claims,
    release_claim,
    visible,
)
from contlearn.data.intake import FileIntake
from contlearn.data.place import IntakePlace, OneFile
from contlearn.data.reading import find_parser
from contlearn.data.report import FileReport, IngestReport
from contlearn.data.streams import refuse_file
from contlearn.errors import RecordError, UsageError
from contlearn.interfaces import Clock, Progress
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import FileOperations, Workspace, file_lock

__all__ = ["ingest_paths", "scan_inbox"]

_LOCK_SECONDS: Final = 600.0
# A claimed file whose reader died this often is refused. Readers die of other causes too (a
# restart, the memory of another program), so it takes many, and the untried files go first.
_MAX_TRIES: Final = 50


def _silent(stage: str, done: int, total: int, message: str) -> None:
    """Show nothing."""


def ingest_paths(
    workspace: Workspace,
    config: Config,
    catalog: Catalog,
    manager: PluginManager,
    paths: Sequence[Path],
    *,
    format: str | None = None,
    held_out: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    clock: Clock,
    files: FileOperations | None = None,
) -> IngestReport:
    """Take in files that a user names; they are copied, never moved or changed.

    Args:
        workspace: Where they go.
        config: The configuration.
        catalog: The catalog, open.
        manager: Where tasks and parsers come from.
        paths: The files.
        format: A parser's name, where the file's own name does not tell.
        held_out: Keep every row for measuring only.
        dry_run: Only say what would happen; nothing is written.
        progress: Called with ("ingesting", done, total, message).
        clock: The time.
        files: The file operations.
    Raises:
        UsageError: When a file is not there.
        PluginError: When the task or the format is not known.
        StorageError: When the disk is full or a file cannot be read.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UsageError(
            f"There is no file {missing[0]!r}"
            + (f", nor {len(missing) - 1} more that were named." if len(missing) > 1 else "."),
            where=missing[0],
            hint="Check the path; nothing was taken in.",
        )
    if format is not None:
        manager.get("parser", format, where="--format")
    with _Intake.opened(
        workspace, config, catalog, manager, clock, files, progress, dry_run=dry_run, format=format
    ) as intake:
        reports = [
            intake.take(
                path,
                held_out=held_out or intake.is_held_out(path.name),
                place=(done, len(paths)),
            )
            for done, path in enumerate(paths)
        ]
    return _report(workspace, reports, dry_run=dry_run)


def scan_inbox(
    workspace: Workspace,
    config: Config,
    catalog: Catalog,
    manager: PluginManager,
    *,
    dry_run: bool = False,
    clock: Clock,
    progress: Progress | None = None,
    files: FileOperations | None = None,
) -> IngestReport:
    """Take in what has come to rest in the inbox, and what a killed run had claimed.

    Raises:
        PluginError: When the task is not known.
        StorageError: When the disk is full or a file cannot be read.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    with _Intake.opened(
        workspace, config, catalog, manager, clock, files, progress, dry_run=dry_run
    ) as intake:
        if dry_run:
            found, waiting = visible(workspace.inbox), 0
        else:
            waiting = claim_rested(workspace, config, clock, intake.files)
            found = list_claims(workspace)
        reports = []
        for done, path in enumerate(found):
            place = (done, len(found))
            if not dry_run and is_open_for_writing(path):
                waiting += 1
                continue
            before = path.lstat()
            held_out = intake.is_held_out(path.name)
            tries = 0 if dry_run else count_try(path, intake.files)
            reports.append(
                intake.take(path, held_out=held_out, place=place, in_inbox=True, tries=tries)
            )
            if dry_run:
                continue
            after = path.lstat()
            if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
                release_claim(workspace, path, intake.files)
            else:
                # Somebody wrote to it meanwhile: the next scan takes in what is new.
                waiting += 1
    return _report(workspace, reports, waiting=waiting, dry_run=dry_run)


def _report(
    workspace: Workspace, reports: Sequence[FileReport], *, dry_run: bool, waiting: int = 0
) -> IngestReport:
    written = {report.quarantine for report in reports if report.quarantine is not None}
    # The file itself where there is one only, else the folder of all.
    quarantine = written.pop() if len(written) == 1 else str(workspace.quarantine)
    return IngestReport(files=reports, quarantine=quarantine, waiting=waiting, dry_run=dry_run)


class _Intake:
    """All files of one run, one after the other, under one lock."""

    def __init__(
        self,
        place: IntakePlace,
        config: Config,
        manager: PluginManager,
        progress: Progress,
        format: str | None,
    ) -> None:
        self._place, self._config, self._manager = place, config, manager
        self._progress, self._format = progress, format
        self.files = place.files

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls,
        workspace: Workspace,
        config: Config,
        catalog: Catalog,
        manager: PluginManager,
        clock: Clock,
        files: FileOperations | None,
        progress: Progress | None,
        *,
        dry_run: bool,
        format: str | None = None,
    ) -> Iterator[_Intake]:
        """Look the task up, take the lock, and clear away what a killed run had staged."""
        task = manager.get("task", config.model.task, where="model.task in contlearn.toml")()
        operations = files or FileOperations()
        with contextlib.ExitStack() as stack:
            if dry_run:
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
                    _clear_after_kill(workspace, catalog, operations)
                finish_forgetting(workspace, config, catalog, manager, files=operations)
                operations.make_folder(staging)
                stack.callback(operations.remove_tree, staging)
            place = IntakePlace(
                workspace=workspace,
                config=config,
                catalog=catalog,
                task=task,
                files=operations,
                staging=staging,
                received_at=clock.now(),
                dry_run=dry_run,
                settings=_settings(config, manager, format),
            )
            yield cls(place, config, manager, progress or _silent, format)

    def is_held_out(self, name: str) -> bool:
        """Say whether the configuration names a file as one to measure on."""
        return any(fnmatch(name, pattern) for pattern in self._config.data.held_out_files)

    def take(
        self,
        path: Path,
        *,
        held_out: bool,
        place: tuple[int, int],
        in_inbox: bool = False,
        tries: int = 0,
    ) -> FileReport:
        """Take in one file, or find that it was taken in before, or refuse it."""
        done, total = place
        self._progress("ingesting", done, total, path.name)
        report = FileReport(path=_shown(path.name if in_inbox else path))
        source, digest = path, ""
        try:
            _refuse_no_file(path, follow=not in_inbox)
            if self._place.dry_run:
                digest = content_hash(path)
            else:
                digest, source = archive_copy(self._place.workspace, path, self.files)
            if self._known(digest, report, held_out=held_out):
                return report
            if tries >= _MAX_TRIES:
                raise refuse_file(
                    "binary",
                    f"Reading it ended the process {tries} times.",
                    f"A copy is in {source}; please report it. Nothing of the file was used.",
                )
            intake = FileIntake(
                self._place,
                OneFile(name=_shown(path.name), content_hash=digest, held_out=held_out),
                advance=lambda rows: self._progress(
                    "ingesting", done, total, f"{path.name}: {rows:,} rows"
                ),
            )
            intake.run(find_parser(self._manager, path.name, self._format), source, report)
        except RecordError as error:
            _refuse_whole(report, error)
            if not self._place.dry_run and digest:
                file = OneFile(name=_shown(path.name), content_hash=digest, held_out=held_out)
                with self._place.catalog.write() as connection:
                    insert_file(connection, self._place, file, report, None)
        self._progress("ingesting", done + 1, total, path.name)
        return report

    def _known(self, digest: str, report: FileReport, *, held_out: bool) -> bool:
        """Report on a content that was taken in before: nothing changes."""
        query = (
            sa.select(file_table)
            .where(file_table.c.content_hash == digest, file_table.c.held_out == held_out)
            .order_by(file_table.c.file_id.desc())
        )
        with self._place.catalog.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            # With other settings, rows that were refused may be fine now.
            if row.settings != self._place.settings and row.verdict != "ok":
                continue
            report.known, report.verdict = True, row.verdict
            report.reason, report.message = row.reason, row.message
            report.rows, report.rejected = row.rows, row.rejected
            report.conflicts = row.conflicts
            report.duplicates = row.accepted + row.duplicates
            if row.quarantine is not None:
                report.quarantine = str(self._place.workspace.quarantine / row.quarantine)
            report.warnings.add("known-file", f"This content was taken in before, as {row.name!r}.")
            return True
        return False


def _clear_after_kill(workspace: Workspace, catalog: Catalog, files: FileOperations) -> None:
    """Take away what a killed run left that nothing points to. The lock is held."""
    with catalog.read() as connection:
        query = sa.select(file_table.c.segment).where(file_table.c.segment.is_not(None))
        known = set(connection.execute(query).scalars())
    for segment in workspace.records.glob("*.parquet"):
        if segment.name not in known:
            files.unlink(segment)
    for left in (*workspace.archive.rglob(".*.tmp"), *workspace.quarantine.glob(".*.tmp")):
        files.unlink(left)
    files.remove_tree(workspace.records / ".staging")


def _settings(config: Config, manager: PluginManager, format: str | None) -> str:
    """Hash what the outcome of reading a file depends on besides its content."""
    value = {
        "version": __version__,
        "task": config.model.task,
        "data": config.data.model_dump(mode="json"),
        "parsers": sorted(manager.table("parser")),
        "format": format,
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _shown(path: Path | str) -> str:
    """Give a name as text that can be stored, whatever bytes it has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse_no_file(path: Path, *, follow: bool) -> None:
    mode = (path.stat() if follow else path.lstat()).st_mode
    if stat.S_ISDIR(mode):
        raise refuse_file(
            "is-directory",
            f"{_shown(path.name)!r} is a folder, not a file.",
            "Name the files in it, or put them into the inbox one by one.",
        )
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
        raise refuse_file(
            "not-a-file",
            f"{_shown(path.name)!r} is {kind}.",
            "Copy the file itself into the inbox.",
        )


def _refuse_whole(report: FileReport, error: RecordError) -> None:
    """Turn a report into one of a file of which nothing was used."""
    report.verdict = "reject"
    report.rows = report.accepted = report.duplicates = report.conflicts = report.rejected = 0
    report.held_out = 0
    report.reason, report.message, report.hint = error.where, error.what, error.hint
    report.quarantine = None
    report.problems.counts.clear()
    report.problems.examples.clear()
    report.problems.add(error.where or "", error.what, hint=error.hint or "")
