"""Reading a labelled file without taking it in: to measure on it, say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from contlearn.config import Config
from contlearn.data.archive import suffixes_of
from contlearn.data.formats.conll import ConllColumns
from contlearn.data.formats.delimited import CsvRows
from contlearn.data.formats.streams import COMPRESSIONS
from contlearn.data.intake.checking import RowChecker, record_digest
from contlearn.errors import RecordError
from contlearn.interfaces import RecordParser, RowProblem
from contlearn.plugins.manager import PluginManager
from contlearn.types import LabelledRecord

__all__ = ["find_parser", "read_labelled"]


def find_parser(
    manager: PluginManager, name: str, format: str | None = None, *, columns: Sequence[str] = ()
) -> RecordParser:
    """Find the parser by its own name, or by that of the file.

    Args:
        manager: Where the parsers come from.
        name: The file's name.
        format: The parser's name.
        columns: The columns of files without a header, for parsers that can do without.
    Raises:
        PluginError: When there is no parser of that name.
        RecordError: When the file's name does not tell the format.
    """
    parser: RecordParser
    if format is not None:
        return _made(manager.get("parser", format, where="--format"), columns)
    endings = suffixes_of(name)
    for packed in COMPRESSIONS:
        endings = endings.removesuffix(packed)
    suffix = endings[endings.rfind(".") :] if endings else ""
    table = manager.table("parser")
    for item in table.values():
        if suffix in item.implementation.suffixes:
            parser = _made(item.implementation, columns)
            break
    else:
        known = sorted({s for item in table.values() for s in item.implementation.suffixes})
        raise RecordError(
            f"The name {name!r} does not tell the format.",
            where="unknown-format",
            hint=f"End it in one of {', '.join(known)}, or use --format.",
        )
    return parser


def _made(implementation: Any, columns: Sequence[str]) -> RecordParser:
    with_columns = columns and issubclass(implementation, CsvRows | ConllColumns)
    parser: RecordParser = implementation(columns) if with_columns else implementation()
    return parser


def read_labelled(
    config: Config,
    manager: PluginManager,
    path: Path,
    *,
    now: datetime,
    known_labels: Sequence[str] = (),
) -> list[LabelledRecord]:
    """Read and check every row of a file; nothing is stored.

    Args:
        config: The configuration.
        manager: Where tasks and parsers come from.
        path: The file.
        now: When this is.
        known_labels: Labels that are named already: those of the version that is measured.
    Raises:
        RecordError: When the file is not there, or a row is wrong: what is measured must be whole.
    """
    if not path.is_file():
        raise RecordError(
            f"There is no file {str(path)!r}.", where=str(path), hint="Check the path."
        )
    task = manager.task(config.model.task, config.model.task_options, where="model.task")
    checker = RowChecker(task, config.model_copy(update={"data": _open(config)}), known_labels)
    parser = find_parser(manager, path.name, columns=config.data.columns)
    needed = task.needed_fields(config.data.field_names())
    records = []
    for parsed in parser.rows(path, config.data.limits, needed):
        problem = parsed.problem
        if problem is None and parsed.row is not None:
            try:
                checked = checker.check(parsed.row)
            except RowProblem as error:
                problem = error
            else:
                records.append(
                    LabelledRecord(
                        record_id=record_digest(checked.normal, checked.target),
                        inputs=checked.inputs,
                        target=checked.target,
                        split="held_out",
                        source=path.name,
                        received_at=now,
                    )
                )
                continue
        if problem is not None:
            raise RecordError(
                f"Row {parsed.number} cannot be used: {problem.message}",
                where=f"{path}, row {parsed.number} ({problem.reason})",
                hint=problem.hint or "Correct the row, or leave it out.",
            )
    return records


def _open(config: Config) -> object:
    """Take any label: what the model does not know is measured as wrong."""
    return config.data.model_copy(update={"labels": (), "allow_new_labels": True})
