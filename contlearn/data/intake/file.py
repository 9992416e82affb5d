"""One file from its bytes to the commit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import sqlalchemy as sa

from contlearn.catalog.schema import labels as label_table
from contlearn.data.forgetting import Forgotten, redact_archived
from contlearn.data.formats.streams import named_hint, refuse_file
from contlearn.data.intake.checking import TEXT_BYTES, Checked, RowChecker
from contlearn.data.intake.collected import Collected
from contlearn.data.intake.commit import commit_records, publish_segment
from contlearn.data.intake.known import known_groups, known_labels, known_records, label_rows
from contlearn.data.intake.neighbours import Reserve
from contlearn.data.intake.place import IntakePlace, OneFile
from contlearn.data.intake.report import FileReport, say_forgotten
from contlearn.data.intake.resolve import (
    ACCEPT,
    CONFLICT,
    DUPLICATE,
    Resolution,
    assign_sides,
    resolve,
)
from contlearn.data.quarantine.lines import QuarantineWriter, row_text, safe_name
from contlearn.data.segments import GROUP_ROWS, SegmentWriter, read_rows
from contlearn.errors import ContlearnError
from contlearn.interfaces import ParsedRow, RecordParser, RowProblem
from contlearn.tasks.others import task_of_fields
from contlearn.types import RejectedRecord
from contlearn.workspace import storage_border

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from contlearn.data.intake.label_book import NearName

__all__ = ["FileIntake"]

_PROGRESS_ROWS: Final = 20_000


class FileIntake:
    """Takes in one file.

    Args:
        place: Where to.
        file: Which.
        advance: Called with the number of rows read so far, now and then.
        known_rows: How many rows at the beginning were taken in before, as a file of their own.
    """

    def __init__(
        self,
        place: IntakePlace,
        file: OneFile,
        *,
        advance: Callable[[int], None],
        known_rows: int = 0,
    ) -> None:
        self._place, self._file, self._advance = place, file, advance
        self._known_rows = known_rows
        self._intake = place.intake
        self._limits = place.intake.config.data.limits
        self._rows = Collected(place.intake.config.data, place.staging)

    def run(self, parser: RecordParser, path: Path, report: FileReport) -> None:
        """Parse, decide, write, commit; fill the report.

        Raises:
            RecordError: When the file is refused whole; nothing of it was kept.
        """
        place = self._place
        with self._intake.catalog.read() as connection:
            known = known_labels(connection)
        refused = self._attempt(parser, path, report, known, ())
        if refused:
            # Only now it is known which new names of labels are slips: once more, without them.
            self._rows = Collected(self._intake.config.data, place.staging)
            report.start_again()
            self._attempt(parser, path, report, known, refused)

    def _attempt(
        self,
        parser: RecordParser,
        path: Path,
        report: FileReport,
        known: Sequence[str],
        refused_labels: Sequence[NearName],
    ) -> Sequence[NearName]:
        """Read the file and keep what is in it; or say which labels must be refused first."""
        place = self._place
        checker = RowChecker(
            self._intake.task, self._intake.config, known, refused=refused_labels, keeps_rows=True
        )
        staged = place.staging / f"{self._file.stem(place.settings)}.parquet"
        refused = QuarantineWriter(
            place.staging if self._intake.dry_run else self._intake.workspace.quarantine,
            _quarantine_name(self._file),
            self._intake.files,
            mode=self._file.mode,
        )
        with (
            storage_border(
                f"write the records of {self._file.name}", self._intake.workspace.records
            ),
            refused,
        ):
            try:
                has_values = self._intake.task.labelling == "value"
                with SegmentWriter(staged, has_values=has_values) as writer:
                    self._read(parser, path, checker, writer, refused, report)
                report.near_labels = checker.book.settle(self._rows_of)
                slips = [item for item in report.near_labels if item.is_refused]
                if not refused_labels and any(i.label in checker.book.names for i in slips):
                    return slips
                result, held_out = self._decide(report)
                self._refuse_conflicts(staged, result, refused, report)
                self._keep_forgotten(path, result, report)
                self._count(result, held_out, report)
                self._warn(checker, report)
                self._tell_labels(checker, result, report, known)
                if not self._intake.dry_run:
                    quarantine = refused.publish()
                    report.quarantine = None if quarantine is None else str(quarantine)
                    segment = publish_segment(place, self._file, staged, result)
                    self._extend_reserve(result, held_out)
                    commit_records(
                        place,
                        self._file,
                        self._rows,
                        result,
                        held_out,
                        segment=segment,
                        labels=self._labels(checker, result),
                        report=report,
                    )
            finally:
                staged.unlink(missing_ok=True)
        return ()

    def _rows_of(self, label: str, limit: int) -> int:
        with self._intake.catalog.read() as connection:
            separator = self._intake.task.key_separator
            return label_rows(connection, label, limit, separator=separator)

    def _tell_labels(
        self, checker: RowChecker, result: Resolution, report: FileReport, known: Sequence[str]
    ) -> None:
        """Name the labels that are new, and those that stay though another is close."""
        taken = set(self._labels(checker, result)).difference(known)
        report.new_labels = [label for label in checker.new_labels if label in taken]
        for item in report.near_labels:
            if not item.is_refused and item.label in taken:
                report.warnings.add("near-kept", f"{item.message} Both are kept.")

    # -- reading ---------------------------------------------------------------------------------

    def _read(
        self,
        parser: RecordParser,
        path: Path,
        checker: RowChecker,
        writer: SegmentWriter,
        refused: QuarantineWriter,
        report: FileReport,
    ) -> None:
        needed = self._intake.task.needed_fields(self._intake.config.data.field_names())
        check, limit = checker.check, self._limits.rows
        batch: list[Checked] = []
        lines: list[int] = []
        shape: set[str] = set()
        for parsed in _guarded(parser, parser.rows(path, self._limits, needed)):
            report.rows += 1
            if report.rows > limit:
                raise refuse_file(
                    "too-long",
                    f"The file has more than {limit:,} rows.",
                    "Split it, or raise data.limits.rows in contlearn.toml.",
                )
            if report.rows % _PROGRESS_ROWS == 0:
                self._advance(report.rows)
            for code, message in parsed.warnings:
                report.warnings.add(code, message, line=parsed.number)
            if report.rows <= self._known_rows:
                continue
            problem = parsed.problem
            if problem is None and parsed.row is not None:
                try:
                    checked = check(parsed.row)
                except RowProblem as error:
                    problem = error
                    if error.reason == "missing-field" and not shape:
                        shape.update(map(str, parsed.row))
                else:
                    for code, message in checked.warnings:
                        report.warnings.add(code, message, line=parsed.number)
                    batch.append(checked)
                    lines.append(parsed.number)
                    if len(batch) >= GROUP_ROWS:
                        self._rows.stage(batch, lines, writer)
                        batch, lines = [], []
                    continue
            self._refuse(parsed, problem or _NOTHING, refused, report)
        if batch:
            self._rows.stage(batch, lines, writer)
        if self._known_rows:
            report.warnings.add(
                "appended",
                f"The first {self._known_rows:,} rows were taken in before, as the beginning of "
                "this file.",
            )
        if not report.rows:
            raise refuse_file("empty-file", "The file has no rows.", "Put rows into it.")
        if report.rejected == report.rows:
            task = task_of_fields(shape, needed)
            if task is not None:
                report.message = (
                    f"The rows look like data for {task}; this model's task is "
                    f"{self._intake.task.name}, which needs the fields {', '.join(needed)}."
                )

    def _refuse(
        self,
        parsed: ParsedRow,
        problem: RowProblem,
        refused: QuarantineWriter,
        report: FileReport,
    ) -> None:
        report.rejected += 1
        hint = named_hint(problem.hint, self._file.name)
        report.problems.add(problem.reason, problem.message, line=parsed.number, hint=hint)
        refused.add(
            RejectedRecord(
                source=self._file.name,
                line_number=parsed.number,
                reason=problem.reason,
                message=problem.message,
                hint=hint,
                row=parsed.raw or ("" if parsed.row is None else row_text(parsed.row)),
            )
        )

    # -- deciding --------------------------------------------------------------------------------

    def _decide(self, report: FileReport) -> tuple[Resolution, NDArray[np.bool_]]:
        _place, data = self._place, self._intake.config.data
        digests, names = self._rows.digests(), self._rows.group_names()
        with self._intake.catalog.read() as connection:
            known = known_records(connection, self._intake.catalog.ids, digests)
            sides: Mapping[str, bool] = known_groups(connection, names)
        result = resolve(
            digests,
            known,
            policy="all" if self._intake.task.relation == "reference" else data.on_conflict,
            held_out=self._file.held_out,
            bring_back=self._intake.bring_back,
        )
        none = np.zeros(0, dtype=np.int64)
        near = (none, none, none)
        if self._rows.near is not None:
            near = self._rows.near.pairs(result.accepted(), self._reserve().load())
            self._report_near(near, report)
        held_out = assign_sides(
            digests,
            result,
            self._rows.groups(),
            names,
            sides,
            near,
            seed=data.split_seed,
            held_out_ratio=data.held_out_ratio,
            held_out=self._file.held_out,
        )
        return result, held_out

    def _reserve(self) -> Reserve:
        capacity = self._intake.config.data.near_duplicate_reserve
        return Reserve(self._intake.workspace.records / "reserve.bin", capacity)

    def _extend_reserve(self, result: Resolution, held_out: NDArray[np.bool_]) -> None:
        """Remember the signatures of the new held-out rows for the files to come."""
        if self._rows.near is not None:
            rows = np.flatnonzero((result.action == ACCEPT) & held_out)
            signatures = self._rows.near.signatures(rows)
            self._reserve().load().add(*signatures, self._intake.files)

    def _report_near(self, near: tuple[NDArray[np.int64], ...], report: FileReport) -> None:
        first, second, reserve = near
        _, earliest = np.unique(second, return_index=True)
        names = self._rows.key_names()
        for i in earliest.tolist():
            a, b = int(first[i]), int(second[i])
            other = self._rows.keys[a] != self._rows.keys[b]
            report.warnings.add(
                "near-duplicate",
                f"Line {self._rows.lines[b]} is nearly the same text as line {self._rows.lines[a]}"
                + (f", with another label ({names[self._rows.keys[a]]!r})." if other else "."),
                line=self._rows.lines[b],
            )
        for row in reserve.tolist():
            line = self._rows.lines[row]
            report.warnings.add(
                "near-held-out",
                f"Line {line} is nearly the same text as a held-out record; it is held out too.",
                line=line,
            )

    def _refuse_conflicts(
        self, staged: Path, result: Resolution, refused: QuarantineWriter, report: FileReport
    ) -> None:
        """Write the rows in conflict to the quarantine, with the other line's number."""
        rows = np.flatnonzero(result.action == CONFLICT).tolist()
        if not rows:
            return
        fields = self._intake.config.data.field_names()
        names = self._rows.key_names()
        for row, found in zip(rows, read_rows(staged, rows), strict=True):
            _, inputs, target, group, *_ = found
            if inputs is None or target is None:
                continue  # forgotten; a file that is staged has none
            other = int(result.other[row])
            message = result.messages.get(row)
            if message is None:
                message = (
                    f"The same text stands on line {self._rows.lines[other]} with another label "
                    f"({names[self._rows.keys[other]]!r})."
                )
            hint = "Correct the wrong one and take the rows in again, or set data.on_conflict."
            shown = self._intake.task.write_row(inputs, target, fields)
            if group is not None and self._intake.config.data.group:
                shown[self._intake.config.data.group] = group
            line = self._rows.lines[row]
            report.problems.add("conflict", message, line=line, hint=hint)
            refused.add(
                RejectedRecord(
                    source=self._file.name,
                    line_number=line,
                    reason="conflict",
                    message=message,
                    hint=hint,
                    row=row_text(shown),
                )
            )

    def _keep_forgotten(self, path: Path, result: Resolution, report: FileReport) -> None:
        """Texts that were forgotten stay so: the archive keeps this file without them."""
        if result.outdated:
            report.warnings.add(
                "superseded",
                f"{len(result.outdated)} rows have labels that gave way to newer ones; they are "
                "not taken in.",
                line=self._rows.lines[min(result.outdated)],
                hint="With --on-conflict newest they would be the newest again.",
            )
        if not result.forgotten:
            return
        say_forgotten(report, len(result.forgotten), line=self._rows.lines[min(result.forgotten)])
        if not self._intake.dry_run:
            digests = self._rows.digests()
            forgotten = Forgotten(
                digests[row].tobytes()[:TEXT_BYTES] for row in set(result.forgotten)
            )
            redact_archived(
                path, self._intake.config, self._intake.manager, forgotten, self._intake.files
            )

    def _count(self, result: Resolution, held_out: NDArray[np.bool_], report: FileReport) -> None:
        accepted = result.action == ACCEPT
        report.accepted = int(accepted.sum())
        report.duplicates = int((result.action == DUPLICATE).sum()) + self._known_rows
        report.conflicts = int((result.action == CONFLICT).sum())
        report.held_out = int((accepted & held_out).sum())
        report.superseded = len(result.superseded)
        if report.accepted + report.duplicates == 0:
            report.verdict = "reject"
        elif report.rejected + report.conflicts:
            report.verdict = "partial"
        if report.verdict != "ok":
            worst = report.problems.to_json()[0]
            report.reason = worst["code"]
            if report.verdict == "reject":
                first = worst["examples"][0]
                report.message = report.message or (
                    f"No row can be used; line {first.get('line_number')}: {first['message']}"
                )
                report.hint = first.get("hint")

    def _warn(self, checker: RowChecker, report: FileReport) -> None:
        """Warn of too few classes while there is time: before anything is trained."""
        if not report.accepted or self._intake.task.labelling != "choice":
            return
        names = self._rows.key_names()
        counts = np.bincount(np.array(self._rows.keys, dtype=np.int64), minlength=len(names))
        with self._intake.catalog.read() as connection:
            others = connection.execute(sa.select(label_table.c.name).limit(2)).scalars().all()
        if len({*others, *names}) == 1:
            report.warnings.add(
                "one-class",
                f"All records so far have the label {names[0]!r}; a classifier "
                "cannot be trained on one class.",
            )
        known = set(checker.new_labels) if others else set(names)
        for number, name in enumerate(names):
            if counts[number] == 1 and name in known:
                report.warnings.add(
                    "one-row-class",
                    f"The label {name!r} has one row only.",
                    line=self._rows.lines[self._rows.keys.index(number)],
                )

    # -- keeping ---------------------------------------------------------------------------------

    def _labels(self, checker: RowChecker, result: Resolution) -> list[str]:
        """Give the labels of the file's accepted records."""
        keys = np.array(self._rows.keys, dtype=np.int64)[result.action == ACCEPT]
        names, task = self._rows.key_names(), self._intake.task
        found = (task.labels_of_key(names[i]) for i in np.unique(keys).tolist())
        return list(dict.fromkeys(label for labels in found for label in labels))


_NOTHING: Final = RowProblem("missing-field", "The row is empty.", "Leave it out.")


def _guarded(parser: RecordParser, rows: Iterable[ParsedRow]) -> Iterator[ParsedRow]:
    """Hand rows on; a fault of the parser refuses its file and stands in no other's way."""
    try:
        yield from rows
    except (ContlearnError, OSError):
        raise
    except Exception as error:
        logging.getLogger("contlearn.data").exception(
            "parser failed", extra={"parser": parser.name}
        )
        raise refuse_file(
            "binary",
            f"Reading it as {parser.name} failed: {type(error).__name__}: {error}.",
            "This is a fault of the parser; please report it. Nothing of the file was used.",
        ) from error


def _quarantine_name(file: OneFile) -> str:
    """Name the quarantine file: recognisable, and one for each content."""
    held_out = ".held-out" if file.held_out else ""
    return f"{safe_name(file.name)}.{file.content_hash[:12]}{held_out}"
