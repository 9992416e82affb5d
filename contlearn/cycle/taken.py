"""What is told of files that were taken in, whoever took them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contlearn.context import Context

__all__ = ["refused_files", "tell_ingested"]

_COUNTS: Final = ("accepted", "duplicates", "conflicts", "rejected", "held_out")


def tell_ingested(context: Context, report: Mapping[str, Any]) -> None:
    """Tell observers that files were taken in; the same whoever took them in.

    Args:
        context: The opened workspace.
        report: What `ingest --json` prints.
    """
    if report["dry_run"] or not report["files"]:
        return
    context.emit(
        "ingested",
        **{name: report[name] for name in _COUNTS},
        files=len(report["files"]),
        files_refused=len(refused_files(report)),
    )


def refused_files(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give path, reason, message and hint of each file of an ingest that was refused whole."""
    return [
        {name: file[name] for name in ("path", "reason", "message", "hint")}
        for file in report.get("files", ())
        if file["verdict"] == "reject"
    ]
