"""The page of a version that shows texts: `reports/<n>.html` in the workspace, one file.

The child of a cycle makes it before the version has its number; the parent, which reads no texts,
puts the number in and moves it to its place. `make_report` makes it anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.errors import ContlearnError
from contlearn.interfaces import Task
from contlearn.pages.report import (
    REPORT_PAGE,
    ShownRecord,
    render_report,
    shown_records,
    with_changes,
    with_version,
)
from contlearn.papers.decision import read_decision
from contlearn.papers.journal import CHANGES
from contlearn.papers.report import EvaluationReport, read_report
from contlearn.registry.origin import origin_of
from contlearn.types import LabelledRecord
from contlearn.workspace import Workspace, mode_of, write_bytes_atomic

if TYPE_CHECKING:
    from contlearn.context import Context

__all__ = [
    "make_report",
    "number_page",
    "publish_report",
    "remove_old_reports",
    "report_path",
    "show_changes",
    "shown",
]

# Of the newest changes of the champion a page shows those of its version.
_CHANGES_READ: Final = 500


def report_path(workspace: Workspace, version: int) -> Path:
    """Say where the page of a version is."""
    return workspace.reports / f"{version}.html"


def shown(records: Sequence[LabelledRecord], task: Task) -> dict[str, ShownRecord]:
    """Give texts and words of records as a page shows them."""
    found: dict[str, ShownRecord] = {}
    for record in records:
        words = record.inputs.get("tokens")
        found[record.record_id] = (
            task.text_of(record.inputs),
            words if isinstance(words, tuple) else None,
        )
    return found


def publish_report(workspace: Workspace, made: Path, version: int) -> Path | None:
    """Move the page that the child made to its place; nothing where it made none.

    Doing it again after a kill does what is left to do.
    """
    path = report_path(workspace, version)
    try:
        page = made.read_text(encoding="utf-8")
    except FileNotFoundError:
        return path if path.exists() else None
    workspace.reports.mkdir(exist_ok=True)
    write_bytes_atomic(path, with_version(page, version).encode(), mode=mode_of(made))
    made.unlink(missing_ok=True)
    return path


def number_page(folder: Path, version: int) -> None:
    """Put the version's number into the page that lies in its folder, before that is sealed."""
    path = folder / REPORT_PAGE
    with contextlib.suppress(FileNotFoundError):
        page = path.read_text(encoding="utf-8")
        write_bytes_atomic(path, with_version(page, version).encode())


def show_changes(context: Context, versions: Iterable[int | None]) -> None:
    """Say in the pages of these versions what became of them; a page that is not there stays so."""
    for version in {number for number in versions if number is not None}:
        path = report_path(context.workspace, version)
        # A page is no reason to stop a change of the champion; `make_report` makes it anew.
        with contextlib.suppress(OSError, ContlearnError):
            page = path.read_text(encoding="utf-8")
            page = with_changes(page, _changes_of(context, version))
            write_bytes_atomic(path, page.encode(), mode=mode_of(path))


def _changes_of(context: Context, version: int) -> list[dict[str, Any]]:
    """Give when a version became champion and when it gave way, oldest first."""
    found = []
    for change in islice(context.registry.journal.back(*CHANGES), _CHANGES_READ):
        came, left = change.version == version, change.previous == version
        if came == left:
            continue
        back = "back to " if change.event == "rollback" else ""
        became = "Served again" if back else "Promoted"
        if change.force:
            became += ", past the gate"
        found.append(
            {
                "kind": became if came else f"Gave way: {back}version {change.version}",
                "at": change.at,
                "actor": change.actor,
                "reason": change.reason,
                "by_hand": origin_of(change) == "hand",
            }
        )
    return found[::-1]


def make_report(
    context: Context,
    version: int,
    *,
    output: Path | None = None,
    flips: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write the page of a version anew, with the texts that are still there.

    Args:
        context: The opened workspace.
        version: Which version.
        output: Another place than `reports/<n>.html`.
        flips: Flips with the words that decided, to be shown too.
    Raises:
        RegistryError: When there is no such version.
        StorageError: When a report is missing or the page cannot be written.
    """
    from contlearn.data.store import read_records

    chosen = context.registry.get(version)
    report = read_report(chosen.path)
    ids = shown_records(report)
    records = read_records(context.workspace, context.catalog, ids)
    every = read_records(context.workspace, context.catalog, ids, with_superseded=True)
    corrected = {one.record_id for one in every} - {one.record_id for one in records}
    page = render_report(
        name=context.config.model.name,
        task=context.task,
        facts=chosen.manifest,
        report=_without(report, corrected),
        decision=read_decision(chosen.path),
        records=shown(records, context.task),
        version=str(version),
        flips=flips,
    )
    page = with_changes(page, _changes_of(context, version))
    path = output or report_path(context.workspace, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, page.encode(), mode=context.workspace.text_mode())
    return path


def _without(report: EvaluationReport, record_ids: Set[str]) -> EvaluationReport:
    """Leave rows out of the worst ones: their labels were wrong, not the answers."""
    if report.comparison is None:
        return report
    flips = {
        kind: tuple(item for item in items if item.record_id not in record_ids)
        for kind, items in report.comparison.flips.items()
    }
    return replace(report, comparison=replace(report.comparison, flips=flips))


def remove_old_reports(workspace: Workspace, versions: Sequence[int]) -> None:
    """Remove the pages of versions that are no longer there."""
    with contextlib.suppress(OSError):
        for path in workspace.reports.glob("*.html"):
            if path.stem.isdigit() and int(path.stem) not in versions:
                path.unlink(missing_ok=True)
