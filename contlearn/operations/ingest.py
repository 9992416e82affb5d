"""Taking files in, with everything an opened workspace brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.arguments import require_several
from contlearn.context import Context
from contlearn.cycle.doubting import look_at_arrivals, newest_row
from contlearn.cycle.taken import tell_ingested
from contlearn.errors import UsageError
from contlearn.interfaces import Progress, no_progress

if TYPE_CHECKING:
    from contlearn.data.intake.place import Intake
    from contlearn.data.intake.report import IngestReport

__all__ = ["ingest_files", "intake_of"]


def ingest_files(
    context: Context,
    paths: Sequence[Path] = (),
    *,
    sources: Sequence[str] = (),
    again: bool = False,
    on_conflict: str | None = None,
    format: str | None = None,
    held_out: bool = False,
    bring_back_forgotten: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Take in the files that are named, or what has come to rest in the inbox.

    Then the champion, where there is one, judges the new labels; see `cycle.doubting`.

    Args:
        context: The opened workspace.
        paths: Files; they are copied, never moved or changed. None of them scans the inbox.
        sources: Names of sources in the configuration, which are fetched instead of files.
        again: Fetch a source from its start, whatever was fetched before.
        on_conflict: quarantine, newest or all, instead of `data.on_conflict`.
        format: A parser's name, where a file's own name does not tell.
        held_out: Keep every row for measuring only.
        bring_back_forgotten: Take texts in again that `data forget` took out; for named files.
        dry_run: Only say what would happen; nothing is written.
        progress: Called with ("ingesting", done, total, message).
    Raises:
        UsageError: When a file is not there, one is given outside a list, or what is to be
            brought back is not named.
        PluginError: When the format is not known.
        StorageError: When the disk is full or a file cannot be read.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    from contlearn.data.intake.ingest import ingest_paths, ingest_sources, scan_inbox

    require_several(paths, what="path", where="ingest_files")
    require_several(sources, what="source", where="ingest_files")
    if bring_back_forgotten and (sources or not paths):
        raise UsageError(
            "What was forgotten comes back with the files that are named, and none is.",
            where="--bring-back-forgotten",
            hint="Name the files: `contlearn ingest --bring-back-forgotten FILE`.",
        )
    intake = intake_of(
        context,
        on_conflict=on_conflict,
        dry_run=dry_run,
        format=format,
        bring_back=bring_back_forgotten,
        progress=progress or no_progress,
    )
    before = newest_row(context)
    if sources:
        report = ingest_sources(intake, list(sources), again=again)
    elif not paths:
        report = scan_inbox(intake)
    else:
        report = ingest_paths(intake, list(paths), held_out=held_out)
    if not dry_run:
        report = replace(report, doubted=look_at_arrivals(context, after=before))
    tell_ingested(context, report.to_json())
    return report


def intake_of(context: Context, *, on_conflict: str | None = None, **rules: Any) -> Intake:
    """Say how files go into an opened workspace.

    Args:
        context: The opened workspace.
        on_conflict: quarantine, newest or all, instead of `data.on_conflict`.
        rules: Others of `Intake`.
    """
    from contlearn.data.intake.place import Intake

    config = context.config
    if on_conflict is not None:
        data = config.data.model_copy(update={"on_conflict": on_conflict})
        config = config.model_copy(update={"data": data})
    parts = (context.workspace, config, context.catalog, context.manager)
    return Intake(*parts, clock=context.clock, **rules)
