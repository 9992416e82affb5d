"""Taking in the inbox and the sources, in a process of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contlearn.context import Context
from contlearn.cycle.taken import tell_ingested
from contlearn.errors import TrainingError
from contlearn.interfaces import Progress, no_progress
from contlearn.processes.children import ChildLimits, MustStop, run_child
from contlearn.workspace import Workspace

__all__ = ["inbox_files", "scan_in_child"]


def scan_in_child(
    context: Context,
    *,
    progress: Progress = no_progress,
    must_stop: MustStop | None = None,
    plugins_dir: Path | None = None,
) -> dict[str, Any]:
    """Take in what rests in the inbox and what sources are due, in a child.

    So this process stays small.

    Returns:
        The ingest report; empty when there is nothing to do.
    Raises:
        ContlearnError: When the child could not do its work.
    """
    if not any(inbox_files(context.workspace)) and not _sources_are_due(context):
        return {}
    report: dict[str, Any] = {}

    def hear(message: Mapping[str, Any]) -> None:
        if "stage" in message:
            progress("ingesting", int(message["done"]), int(message["total"]), "")
        else:
            report.update(message)

    log = context.workspace.state / "ingest.log"
    end = run_child(
        "contlearn.data",
        [str(context.workspace.root), *([str(plugins_dir)] if plugins_dir else [])],
        log=log,
        on_message=hear,
        must_stop=must_stop,
        environ=context.for_children(),
        limits=ChildLimits(log_bytes=context.config.retention.log_bytes),
    )
    if end.failure is not None:
        raise end.failure
    if end.returncode not in (0, 1) or not report:
        raise TrainingError(
            f"Taking in the inbox failed. {end.explain()}",
            where=str(log),
            hint="The files are still there; the log has the details.",
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
