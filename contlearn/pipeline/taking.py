"""Taking files in, with everything an opened workspace brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.arguments import require_several
from contlearn.config import Config
from contlearn.interfaces import Progress
from contlearn.pipeline.context import Context

if TYPE_CHECKING:
    from contlearn.data.report import IngestReport

__all__ = ["ingest_files", "with_policy"]


def ingest_files(
    context: Context,
    paths: Sequence[Path] = (),
    *,
    sources: Sequence[str] = (),
    again: bool = False,
    on_conflict: str | None = None,
    format: str | None = None,
    held_out: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Take in the files that are named, or what has come to rest in the inbox.

    Args:
        context: The opened workspace.
        paths: Files; they are copied, never moved or changed. None of them scans the inbox.
        sources: Names of sources in the configuration, which are fetched instead of files.
        again: Fetch a source from its start, whatever was fetched before.
        on_conflict: quarantine, newest or all, instead of `data.on_conflict`.
        format: A parser's name, where a file's own name does not tell.
        held_out: Keep every row for measuring only.
        dry_run: Only say what would happen; nothing is written.
        progress: Called with ("ingesting", done, total, message).
    Raises:
        UsageError: When a file is not there, or one is given outside a list.
        PluginError: When the format is not known.
        StorageError: When the disk is full or a file cannot be read.
        WorkspaceLocked: When another process is taking files in for very long.
    """
    from contlearn.data.ingest import ingest_paths, ingest_sources, scan_inbox

    require_several(paths, what="path", where="ingest_files")
    require_several(sources, what="source", where="ingest_files")
    config = with_policy(context.config, on_conflict)
    parts = (context.workspace, config, context.catalog, context.manager)
    common: dict[str, Any] = {"dry_run": dry_run, "clock": context.clock, "progress": progress}
    if sources:
        return ingest_sources(*parts, list(sources), again=again, **common)
    if not paths:
        return scan_inbox(*parts, **common)
    return ingest_paths(*parts, list(paths), format=format, held_out=held_out, **common)


def with_policy(config: Config, on_conflict: str | None) -> Config:
    """Give a configuration with another policy for conflicts, where one is named."""
    if on_conflict is None:
        return config
    data = config.data.model_copy(update={"on_conflict": on_conflict})
    return config.model_copy(update={"data": data})
