"""Taking in the inbox and the sources, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contlearn.context import Context
from contlearn.cycle.taken import tell_ingested
from contlearn.data.intake.inbox import FileState, file_state, inbox_files, unreadable
from contlearn.interfaces import Progress, no_progress
from contlearn.processes.asking import ask_child
from contlearn.processes.children import ChildLimits, MustStop

__all__ = ["scan_in_child"]


def scan_in_child(
    context: Context,
    *,
    progress: Progress = no_progress,
    must_stop: MustStop | None = None,
    told: dict[Path, FileState] | None = None,
) -> dict[str, Any]:
    """Take in what rests in the inbox and what sources are due, in a child.

    So this process stays small.

    Args:
        context: The opened workspace.
        progress: Hears what is done.
        must_stop: Asked whether to stop.
        told: Files that cannot be read, as they were when a report named them; kept from call to
            call by whoever looks again and again, so that none is looked at until it changes.
    Returns:
        The ingest report; empty when there is nothing to do.
    Raises:
        ContlearnError: When the child could not do its work; the files are still there.
        ChildStopped: When `must_stop` said so.
    """
    workspace = context.workspace
    shut = {path: state for path in unreadable(workspace.inbox) if (state := file_state(path))}
    is_new = any((told or {}).get(path) != state for path, state in shut.items())
    if not (is_new or inbox_files(workspace) or _sources_are_due(context)):
        return {}
    report = ask_child(
        "contlearn.data",
        [workspace.root],
        what="Taking in the inbox",
        needed="files",
        log=workspace.state / "ingest.log",
        limits=ChildLimits(log_bytes=context.config.retention.log_bytes),
        environ=context.for_children(),
        must_stop=must_stop,
        progress=progress,
    )
    tell_ingested(context, report)
    if told is not None:
        told.clear()
        told.update(shut)
    return report


def _sources_are_due(context: Context) -> bool:
    if not context.config.sources:
        return False
    from contlearn.data.sources.fetching import due_sources

    return bool(due_sources(context.config, context.catalog, context.clock))
