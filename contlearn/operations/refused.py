"""Refused rows that go in after all, or are thrown away: what `data quarantine` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contlearn.context import Context
from contlearn.cycle.taken import tell_ingested
from contlearn.operations.ingest import intake_of

if TYPE_CHECKING:
    from contlearn.data.intake.report import IngestReport

__all__ = ["accept_refused", "discard_refused", "retry_refused", "take_back_sheet"]


def take_back_sheet(
    context: Context, sheet: Path, *, on_conflict: str | None = None, dry_run: bool = False
) -> IngestReport:
    """Take in the corrected rows of a sheet that `data quarantine --export` wrote.

    Raises:
        UsageError: When the sheet is not such a sheet.
    """
    from contlearn.data.quarantine.corrected import ingest_corrected

    intake = intake_of(context, on_conflict=on_conflict, dry_run=dry_run)
    return _told(context, ingest_corrected(intake, sheet))


def retry_refused(
    context: Context,
    *,
    reason: str | None = None,
    source: str | None = None,
    on_conflict: str | None = None,
    dry_run: bool = False,
) -> IngestReport:
    """Check refused rows (all, or those of one reason or file) under the present configuration."""
    from contlearn.data.quarantine.corrected import retry_quarantine

    intake = intake_of(context, on_conflict=on_conflict, dry_run=dry_run)
    return _told(context, retry_quarantine(intake, reason=reason, source=source))


def accept_refused(
    context: Context,
    accepted: Sequence[str],
    *,
    reason: str | None = None,
    source: str | None = None,
    on_conflict: str | None = None,
    dry_run: bool = False,
) -> IngestReport:
    """Let in refused rows of new labels that are meant, or are slips of known ones.

    Args:
        context: The opened workspace.
        accepted: "LABEL" for a label of its own, "LABEL=KNOWN" for a slip.
        reason: Only rows refused for this reason.
        source: Only rows of this file.
        on_conflict: Another policy than the configured one.
        dry_run: Only say what would happen.
    Raises:
        UsageError: When no refused row has such a label.
    """
    from contlearn.data.quarantine.corrected import accept_labels

    intake = intake_of(context, on_conflict=on_conflict, dry_run=dry_run)
    return _told(context, accept_labels(intake, accepted, reason=reason, source=source))


def discard_refused(
    context: Context,
    *,
    reason: str | None = None,
    source: str | None = None,
    dry_run: bool = False,
) -> int:
    """Throw refused rows away for good, and write that into the journal.

    Returns:
        How many.
    """
    from contlearn.data.quarantine.corrected import discard_quarantine
    from contlearn.data.quarantine.looking import read_quarantine

    if dry_run:
        return sum(1 for _ in read_quarantine(context.workspace, reason=reason, source=source))
    number = discard_quarantine(context.workspace, reason=reason, source=source)
    context.registry.note("discard", actor=context.actor, reason="quarantine", records=number)
    return number


def _told(context: Context, report: IngestReport) -> IngestReport:
    tell_ingested(context, report.to_json())
    return report
