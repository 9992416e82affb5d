"""Taking in the inbox and the sources, in a process of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contlearn.context import Context
from contlearn.cycle.taken import tell_ingested
from contlearn.interfaces import Progress, no_progress
from contlearn.processes.asking import ask_child
from contlearn.processes.children import ChildLimits, MustStop
from contlearn.workspace import Workspace

__all__ = ["inbox_files", "scan_in_child"]


def scan_in_child(
    context: Context,
    *,
    progress: Progress = no_progress,
    must_stop: MustStop | None = None,
) -> dict[str, Any]:
    """Take in what rests in the inbox and what sources are due, in a child.

    So this process stays small.

    Returns:
        The ingest report; empty when there is nothing to do.
    Raises:
        ContlearnError: When the child could not do its work; the files are still there.
        ChildStopped: When `must_stop` said so.
    """
    if not any(inbox_files(context.workspace)) and not _sources_are_due(context):
        return {}
    report = ask_child(
        "contlearn.data",
        [context.workspace.root],
        what="Taking in the inbox",
        needed="files",
        log=context.workspace.state / "ingest.log",
        limits=ChildLimits(log_bytes=context.config.retention.log_bytes),
        environ=context.for_children(),
        must_stop=must_stop,
        progress=progress,
    )
    tell_ingested(context, report)
    return report


def inbox_files(workspace: Workspace) -> Iterator[Path]:
    """Give what waits in the inbox or was claimed; not what is still being written."""
    for folder in (workspace.inbox, workspace.claimed):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith((".part", ".tmp")):
                    yield Path(entry.path)


def _sources_are_due(context: Context) -> bool:
    if not context.config.sources:
        return False
    from contlearn.data.sources.fetching import due_sources

    return bool(due_sources(context.config, context.catalog, context.clock))
