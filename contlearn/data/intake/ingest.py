"""Taking files in: those that a user names, and those that rest in the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contlearn.data.intake.inbox import (
    claim_rested,
    count_try,
    is_open_for_writing,
    list_claims,
    release_claim,
    unreadable,
    visible,
)
from contlearn.data.intake.place import Intake
from contlearn.data.intake.report import IngestReport
from contlearn.data.intake.run import IntakeRun
from contlearn.data.sources.fetching import chosen_sources, due_sources, take_source
from contlearn.errors import UsageError

__all__ = ["ingest_paths", "ingest_sources", "scan_inbox"]


def ingest_paths(intake: Intake, paths: Sequence[Path], *, held_out: bool = False) -> IngestReport:
    """Take in files that a user names; they are copied, never moved or changed.

    Args:
        intake: Where they go, and by which rules.
        paths: The files.
        held_out: Keep every row for measuring only.
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
    if intake.format is not None:
        intake.manager.get("parser", intake.format, where="--format")
    with IntakeRun.opened(intake) as run:
        for done, path in enumerate(paths):
            aside = held_out or run.is_held_out(path.name)
            run.take(path, held_out=aside, place=(done, len(paths)))
        return run.report()


def ingest_sources(intake: Intake, names: Sequence[str], *, again: bool = False) -> IngestReport:
    """Fetch sources of the configuration now, and take in what is new.

    Args:
        intake: Where the rows go, and by which rules.
        names: Which sources; all of them if none is named.
        again: Fetch everything, whatever was fetched before.
    Raises:
        UsageError: When there is no such source.
        StorageError: When the disk is full.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    config = intake.config
    chosen = chosen_sources(config, names or [source.name for source in config.sources])
    with IntakeRun.opened(intake) as run:
        for source in chosen:
            take_source(run, source, now=intake.clock.now(), again=again)
        return run.report()


def scan_inbox(intake: Intake) -> IngestReport:
    """Take in what rests in the inbox, what a killed run had claimed, and what sources are due.

    Raises:
        PluginError: When the task is not known.
        StorageError: When the disk is full or a file cannot be read.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    workspace = intake.workspace
    with IntakeRun.opened(intake) as run:
        if intake.dry_run:
            found, waiting = visible(workspace.inbox), 0
        else:
            waiting = claim_rested(workspace, intake.config, intake.clock, intake.files)
            found = list_claims(workspace)
        for done, path in enumerate(found):
            waiting += not _take_from_inbox(intake, run, path, place=(done, len(found)))
        if not intake.dry_run:
            for source in due_sources(intake.config, intake.catalog, intake.clock):
                take_source(run, source, now=intake.clock.now())
            # Not claimed: whoever put them there sees them, and can set it right.
            for path in unreadable(workspace.inbox):
                run.take(path, held_out=False, place=(len(found), len(found)), in_inbox=True)
        return run.report(waiting=waiting)


def _take_from_inbox(intake: Intake, run: IntakeRun, path: Path, *, place: tuple[int, int]) -> bool:
    """Take in one file of the inbox; say whether it is done with, or still written to."""
    if not intake.dry_run and is_open_for_writing(path):
        return False
    before = path.lstat()
    tries = 0 if intake.dry_run else count_try(path, intake.files)
    run.take(path, held_out=run.is_held_out(path.name), place=place, in_inbox=True, tries=tries)
    if intake.dry_run:
        return True
    after = path.lstat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return False  # somebody wrote to it meanwhile: the next scan takes in what is new
    release_claim(intake.workspace, path, intake.files)
    return True
