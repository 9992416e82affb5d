"""One file from its bytes to the commit."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.records import chunks
from contlearn.catalog.schema import files as file_table
from contlearn.catalog.schema import labels as label_table
from contlearn.catalog.schema import records
from contlearn.config import Config
from contlearn.data.checking import (
    Checked,
    RowChecker,
    group_hash,
    target_digest,
    text_digest,
)
from contlearn.data.known import (
    add_labels,
    has_records,
    insert_rows,
    known_groups,
    known_labels,
    known_records,
)
from contlearn.data.neighbours import NearIndex, Reserve
from contlearn.data.quarantine import QuarantineWriter, row_text
from contlearn.data.report import FileReport
from contlearn.data.resolve import (
    ACCEPT,
    CONFLICT,
    DIGEST,
    DUPLICATE,
    Resolution,
    assign_sides,
    resolve,
    texts_of,
)
from contlearn.data.segments import GROUP_ROWS, SegmentWriter, copy_rows, read_rows
from contlearn.data.streams import refuse_file
from contlearn.interfaces import ParsedRow, RecordParser, RowProblem, Task
from contlearn.types import RejectedRecord
from contlearn.workspace import FileOperations, Workspace, storage_border

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["FileIntake", "IntakePlace"]

_INSERT_ROWS: Final = 10_000
_PROGRESS_ROWS: Final = 20_000
_MAX_TARGETS: Final = 100_000
# Fields by which rows of other tasks are known.
_TASK_SIGNS: Final = (
    (("context", "question"), "question answering"),
    (("turns",), "dialogue"),
    (("head", "tail"), "relation extraction"),
    (("source", "target"), "text generation"),
    (("labels",), "several labels a text"),
    (("tokens", "tags"), "token-classification"),
    (("text", "label"), "text-classification"),
)


@dataclass(frozen=True, kw_only=True)
class IntakePlace:
    """Where a file's rows go, and under which rules."""

    workspace: Workspace
    config: Config
    catalog: Catalog
    task: Task
    files: FileOperations
    staging: Path
    received_at: datetime
    dry_run: bool
    settings: str


class FileIntake:
    """Takes in one file.

    Args:
        place: Where to.
        name: The file's name, for people.
        content_hash: Of the file.
        held_out: Every row is for measuring.
        advance: Called with the number of rows read so far, now and then.
    """

    def __init__(
        self,
        place: IntakePlace,
        *,
        name: str,
        content_hash: str,
        held_out: bool,
        advance: Callable[[int], None],
    ) -> None:
        self._place, self._name, self._hash = place, name, content_hash
        self._held_out, self._advance = held_out, advance
        self._limits = place.config.data.limits
        self.stem = f"{content_hash[:20]}-{place.settings[:6]}" + ("-h" if held_out else "")
        self._digests = bytearray()
        self._lines, self._sizes = array("q"), array("I")
        # The number of a row's key and group; the latter -1 for none, and left out where no row
        # can have one.
        self._keys, self._groups = array("I"), array("i")
        self._has_groups = bool(place.config.data.group)
        self._key_names: dict[str, int] = {}
        self._group_names: dict[str, int] = {}
        self._targets: dict[Any, bytes] = {}
        self._near = (
            NearIndex(place.config.data.near_duplicate_similarity)
            if place.config.data.near_duplicates
            else None
        )

    def run(self, parser: RecordParser, path: Path, report: FileReport) -> None:
        """Parse, decide, write, commit; fill the report.

        Raises:
            RecordError: When the file is refused whole; nothing of it was kept.
        """
        place = self._place
        with place.catalog.read() as connection:
            checker = RowChecker(place.task, place.config, known_labels(connection))
        staged = place.staging / f"{self.stem}.parquet"
        refused = QuarantineWriter(
            place.staging if place.dry_run else place.workspace.quarantine,
            quarantine_name(self._name, self._hash, held_out=self._held_out),
            place.files,
        )
        with storage_border(f"write the records of {self._name}", place.workspace.records), refused:
            try:
                with SegmentWriter(staged) as writer:
                    self._read(parser, path, checker, writer, refused, report)
                result, held_out = self._decide(report)
                self._refuse_conflicts(staged, result, refused, report)
                self._count(result, held_out, report)
                self._warn(checker, report)
                if not place.dry_run:
                    self._keep(staged, result, held_out, refused, checker, report)
            finally:
                staged.unlink(missing_ok=True)

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
        place = self._place
        needed = place.task.needed_fields(place.config.data.field_names())
        check, limit = checker.check, self._limits.rows
        batch: list[Checked] = []
        lines: list[int] = []
        shape: set[str] = set()
        for parsed in parser.rows(path, self._limits, needed):
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
                        self._stage(batch, lines, writer)
                        batch, lines = [], []
                    continue
            self._refuse(parsed, problem or _NOTHING, refused, report)
        if batch:
            self._stage(batch, lines, writer)
        if not report.rows:
            raise refuse_file("empty-file", "The file has no rows.", "Put rows into it.")
        if report.rejected == report.rows:
            task = _other_task(shape, needed)
            if task is not None:
                report.message = (
                    f"The rows look like data for {task}; this model's task is "
                    f"{place.task.name}, which needs the fields {', '.join(needed)}."
                )

    def _stage(self, batch: Sequence[Checked], lines: Sequence[int], writer: SegmentWriter) -> None:
        """Write a row group to the staged segment, and keep what the decisions need."""
        digests, targets, near = [], self._targets, self._near
        if len(targets) > _MAX_TARGETS:
            targets.clear()
        for row in batch:
            target = targets.get(row.target)
            if target is None:
                target = targets[row.target] = target_digest(row.target)
            digests.append(text_digest(row.normal) + target)
            self._sizes.append(len(row.normal))
            self._keys.append(self._key_names.setdefault(row.key, len(self._key_names)))
            if self._has_groups:
                self._groups.append(self._group(row.group))
            if near is not None:
                near.add(row.normal)
        self._lines.extend(lines)
        self._digests += b"".join(digests)
        writer.write([digest.hex() for digest in digests], batch, lines)

    def _group(self, group: str | None) -> int:
        if group is None:
            return -1
        return self._group_names.setdefault(group_hash(group), len(self._group_names))

    def _refuse(
        self,
        parsed: ParsedRow,
        problem: RowProblem,
        refused: QuarantineWriter,
        report: FileReport,
    ) -> None:
        report.rejected += 1
        report.problems.add(problem.reason, problem.message, line=parsed.number, hint=problem.hint)
        refused.add(
            RejectedRecord(
                source=self._name,
                line_number=parsed.number,
                reason=problem.reason,
                message=problem.message,
                hint=problem.hint,
                row=parsed.raw or ("" if parsed.row is None else row_text(parsed.row)),
            )
        )

    # -- deciding --------------------------------------------------------------------------------

    def _decide(self, report: FileReport) -> tuple[Resolution, NDArray[np.bool_]]:
        place, data = self._place, self._place.config.data
        digests = np.frombuffer(self._digests, dtype=DIGEST)
        groups = (
            np.array(self._groups, dtype=np.int64)
            if self._has_groups
            else np.full(len(digests), -1, dtype=np.int64)
        )
        names = list(self._group_names)
        with place.catalog.read() as connection:
            known = known_records(connection, *texts_of(digests)) if has_records(connection) else []
            sides: Mapping[str, bool] = known_groups(connection, names)
        result = resolve(digests, known, policy=data.on_conflict, held_out=self._held_out)
        none = np.zeros(0, dtype=np.int64)
        near = (none, none, none)
        if self._near is not None:
            self._reserve = Reserve(
                place.workspace.records / "reserve.bin", data.near_duplicate_reserve
            ).load()
            near = self._near.pairs(result.accepted(), self._reserve)
            self._report_near(near, report)
        held_out = assign_sides(
            digests,
            result,
            groups,
            names,
            sides,
            near,
            seed=data.split_seed,
            held_out_ratio=data.held_out_ratio,
            held_out=self._held_out,
        )
        return result, held_out

    def _report_near(self, near: tuple[NDArray[np.int64], ...], report: FileReport) -> None:
        first, second, reserve = near
        _, earliest = np.unique(second, return_index=True)
        names = list(self._key_names)
        for i in earliest.tolist():
            a, b = int(first[i]), int(second[i])
            other = self._keys[a] != self._keys[b]
            report.warnings.add(
                "near-duplicate",
                f"Line {self._lines[b]} is nearly the same text as line {self._lines[a]}"
                + (f", with another label ({names[self._keys[a]]!r})." if other else "."),
                line=self._lines[b],
            )
        for row in reserve.tolist():
            report.warnings.add(
                "near-held-out",
                f"Line {self._lines[row]} is nearly the same text as a held-out record; it is held "
                "out too.",
                line=self._lines[row],
            )

    def _refuse_conflicts(
        self, staged: Path, result: Resolution, refused: QuarantineWriter, report: FileReport
    ) -> None:
        """Write the rows in conflict to the quarantine, with the other line's number."""
        rows = np.flatnonzero(result.action == CONFLICT).tolist()
        if not rows:
            return
        fields = self._place.config.data.field_names()
        names = list(self._key_names)
        for row, found in zip(rows, read_rows(staged, rows), strict=True):
            _, inputs, target, group, *_ = found
            other = int(result.other[row])
            message = result.messages.get(row)
            if message is None:
                message = (
                    f"The same text stands on line {self._lines[other]} with another label "
                    f"({names[self._keys[other]]!r})."
                )
            hint = "Correct the wrong one and take the rows in again, or set data.on_conflict."
            shown: dict[str, Any] = {
                getattr(fields, name, name): value for name, value in (inputs or {}).items()
            }
            shown[fields.label if isinstance(target, str) else fields.tags] = target
            if group is not None and self._place.config.data.group:
                shown[self._place.config.data.group] = group
            line = self._lines[row]
            report.problems.add("conflict", message, line=line, hint=hint)
            refused.add(
                RejectedRecord(
                    source=self._name,
                    line_number=line,
                    reason="conflict",
                    message=message,
                    hint=hint,
                    row=row_text(shown),
                )
            )

    def _count(self, result: Resolution, held_out: NDArray[np.bool_], report: FileReport) -> None:
        accepted = result.action == ACCEPT
        report.accepted = int(accepted.sum())
        report.duplicates = int((result.action == DUPLICATE).sum())
        report.conflicts = int((result.action == CONFLICT).sum())
        report.held_out = int((accepted & held_out).sum())
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
        if not report.accepted or self._place.task.graph != "sequence-classification":
            return
        counts = np.bincount(np.array(self._keys, dtype=np.int64), minlength=len(self._key_names))
        with self._place.catalog.read() as connection:
            others = connection.execute(sa.select(label_table.c.name).limit(2)).scalars().all()
        if len({*others, *self._key_names}) == 1:
            report.warnings.add(
                "one-class",
                f"All records so far have the label {next(iter(self._key_names))!r}; a classifier "
                "cannot be trained on one class.",
            )
        known = set(checker.new_labels) if others else set(self._key_names)
        for name, number in self._key_names.items():
            if counts[number] == 1 and name in known:
                report.warnings.add(
                    "one-row-class",
                    f"The label {name!r} has one row only.",
                    line=self._lines[self._keys.index(number)],
                )

    # -- keeping ---------------------------------------------------------------------------------

    def _keep(
        self,
        staged: Path,
        result: Resolution,
        held_out: NDArray[np.bool_],
        refused: QuarantineWriter,
        checker: RowChecker,
        report: FileReport,
    ) -> None:
        place = self._place
        quarantine = refused.publish()
        report.quarantine = None if quarantine is None else str(quarantine)
        segment: str | None = None
        if report.accepted:
            segment = f"{self.stem}.parquet"
            whole = staged
            if report.accepted < len(result.action):
                whole = place.staging / f"{self.stem}.kept.parquet"
                copy_rows(staged, whole, result.action == ACCEPT)
            place.files.fsync_file(whole)
            place.files.rename(whole, place.workspace.records / segment)
            place.files.fsync_folder(place.workspace.records)
            if self._near is not None:
                bands, bits = self._near.arrays()
                rows = np.flatnonzero((result.action == ACCEPT) & held_out)
                self._reserve.add(bands[rows], bits[rows], place.files)
        with place.catalog.write() as connection:
            if place.catalog.url.get_backend_name() == "sqlite":
                # The index over ids is written at random places: pages are kept while it grows, and
                # the log is carried over into the database not at once but every 80 MB.
                connection.exec_driver_sql("PRAGMA cache_size = -16384")
                connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 20000")
            file_id = insert_file(
                connection,
                place,
                self._name,
                self._hash,
                report,
                segment,
                held_out=self._held_out,
            )
            for some in self._record_rows(result, held_out, file_id):
                insert_rows(connection, records, _COLUMNS, some)
            add_labels(connection, self._labels(checker, result), file_id)
            for ids in chunks(result.superseded):
                connection.execute(
                    records.update()
                    .where(records.c.record_id.in_(ids), records.c.state != "forgotten")
                    .values(state="held", reason=f"superseded by a newer label in {self._name}")
                )

    def _labels(self, checker: RowChecker, result: Resolution) -> list[str]:
        """Give the labels of the file's accepted records."""
        if self._place.task.graph == "sequence-classification":
            keys = np.array(self._keys, dtype=np.int64)[result.action == ACCEPT]
            names = list(self._key_names)
            return [names[i] for i in np.unique(keys).tolist()]
        return checker.met_labels()

    def _record_rows(
        self, result: Resolution, held_out: NDArray[np.bool_], file_id: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Give the records as tuples of `_COLUMNS`, in the order of their ids.

        So the index over ids, the one that grows at random places, is gone through once.
        """
        accepted = result.accepted()
        place_of = np.cumsum(result.action == ACCEPT) - 1
        digests = np.frombuffer(self._digests, dtype=DIGEST)
        accepted = accepted[np.lexsort((digests["low"][accepted], digests["high"][accepted]))]
        keys, groups = list(self._key_names), list(self._group_names)
        received = self._place.received_at.isoformat()
        for start in range(0, len(accepted), _INSERT_ROWS):
            rows = accepted[start : start + _INSERT_ROWS]
            ids = digests[rows].tobytes().hex()
            yield [
                (
                    ids[32 * i : 32 * i + 32],
                    groups[self._groups[row]]
                    if self._has_groups and self._groups[row] >= 0
                    else None,
                    file_id,
                    place,
                    "held_out" if side else "train",
                    "pending",
                    0,
                    keys[self._keys[row]],
                    self._sizes[row],
                    received,
                )
                for i, (row, place, side) in enumerate(
                    zip(
                        rows.tolist(), place_of[rows].tolist(), held_out[rows].tolist(), strict=True
                    )
                )
            ]


_COLUMNS: Final = (
    "record_id",
    "group_key",
    "file_id",
    "row",
    "split",
    "state",
    "attempts",
    "key",
    "size_bytes",
    "received_at",
)


_NOTHING: Final = RowProblem("missing-field", "The row is empty.", "Leave it out.")


def quarantine_name(name: str, content_hash: str, *, held_out: bool) -> str:
    """Name the quarantine file of a file: recognisable, and one for each content."""
    from contlearn.data.quarantine import safe_name

    return f"{safe_name(name)}.{content_hash[:12]}" + (".held-out" if held_out else "")


def insert_file(
    connection: sa.Connection,
    place: IntakePlace,
    name: str,
    content_hash: str,
    report: FileReport,
    segment: str | None,
    *,
    held_out: bool,
) -> int:
    """Write down what became of a file."""
    values = {
        "content_hash": content_hash,
        "name": name.encode("utf-8", "replace").decode(),
        "held_out": held_out,
        "settings": place.settings,
        "received_at": place.received_at.isoformat(),
        "verdict": report.verdict,
        "reason": report.reason,
        "message": report.message,
        "rows": report.rows,
        "accepted": report.accepted,
        "duplicates": report.duplicates,
        "conflicts": report.conflicts,
        "rejected": report.rejected,
        "segment": segment,
        "quarantine": None if report.quarantine is None else Path(report.quarantine).name,
    }
    result = connection.execute(file_table.insert().values(values))
    key = result.inserted_primary_key
    return int(key[0]) if key is not None else 0


def _other_task(shape: set[str], needed: Sequence[str]) -> str | None:
    """Name the task whose fields the rows have, if it is not this one."""
    for signs, task in _TASK_SIGNS:
        if shape.issuperset(signs) and not set(needed) <= shape:
            return task
    return None
