"""Taking files in: those that a user names, and those that rest in the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contlearn.catalog import Catalog
from contlearn.config import Config
from contlearn.data.intake.inbox import (
    claim_rested,
    count_try,
    is_open_for_writing,
    list_claims,
    release_claim,
    unreadable,
    visible,
)
from contlearn.data.intake.report import FileReport, IngestReport
from contlearn.data.intake.run import IntakeRun
from contlearn.data.sources.fetching import chosen_sources, due_sources, take_source
from contlearn.errors import UsageError
from contlearn.interfaces import Clock, Progress
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import FileOperations, Workspace

__all__ = ["ingest_paths", "ingest_sources", "scan_inbox"]


def ingest_paths(
    workspace: Workspace,
    config: Config,
    catalog: Catalog,
    manager: PluginManager,
    paths: Sequence[Path],
    *,
    format: str | None = None,
    held_out: bool = False,
    bring_back_forgotten: bool = False,
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
        bring_back_forgotten: Take texts in again that were forgotten; others stay as they are.
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
    with IntakeRun.opened(
        workspace,
        config,
        catalog,
        manager,
        clock,
        files,
        progress,
        dry_run=dry_run,
        format=format,
        bring_back=bring_back_forgotten,
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


def ingest_sources(
    workspace: Workspace,
    config: Config,
    catalog: Catalog,
    manager: PluginManager,
    names: Sequence[str],
    *,
    again: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    clock: Clock,
    files: FileOperations | None = None,
) -> IngestReport:
    """Fetch sources of the configuration now, and take in what is new.

    Args:
        workspace: Where the rows go.
        config: The configuration.
        catalog: The catalog, open.
        manager: Where tasks and parsers come from.
        names: Which sources; all of them if none is named.
        again: Fetch everything, whatever was fetched before.
        dry_run: Only say what would happen.
        progress: Called with ("ingesting", done, total, message).
        clock: The time.
        files: The file operations.
    Raises:
        UsageError: When there is no such source.
        StorageError: When the disk is full.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    chosen = chosen_sources(config, names or [source.name for source in config.sources])
    with IntakeRun.opened(
        workspace, config, catalog, manager, clock, files, progress, dry_run=dry_run
    ) as intake:
        reports: list[FileReport] = []
        for source in chosen:
            reports += take_source(intake, source, now=clock.now(), again=again)
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
    """Take in what rests in the inbox, what a killed run had claimed, and what sources are due.

    Raises:
        PluginError: When the task is not known.
        StorageError: When the disk is full or a file cannot be read.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    with IntakeRun.opened(
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
        if not dry_run:
            for source in due_sources(config, catalog, clock):
                reports += take_source(intake, source, now=clock.now())
            # Not claimed: whoever put them there sees them, and can set it right.
            reports += [
                intake.take(path, held_out=False, place=(len(found), len(found)), in_inbox=True)
                for path in unreadable(workspace.inbox)
            ]
    return _report(workspace, reports, waiting=waiting, dry_run=dry_run)


def _report(
    workspace: Workspace, reports: Sequence[FileReport], *, dry_run: bool, waiting: int = 0
) -> IngestReport:
    written = {report.quarantine for report in reports if report.quarantine is not None}
    # The file itself where there is one only, else the folder of all.
    quarantine = written.pop() if len(written) == 1 else str(workspace.quarantine)
    return IngestReport(files=reports, quarantine=quarantine, waiting=waiting, dry_run=dry_run)
