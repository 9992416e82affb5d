"""Rows of a source under the names that the task wants: columns renamed, labels by number named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from contlearn.config import LimitsConfig
from contlearn.interfaces import ParsedRow, RecordParser

__all__ = ["MappedRows", "name_label"]


class MappedRows:
    """Reads through another parser, and renames what it gives.

    Args:
        inner: The parser of the format.
        columns: The source's name of a column → the configured name of the field.
        label_names: The label of each number, where the source numbers its labels.
        label_fields: The fields that hold labels.
    """

    name: ClassVar[str] = "mapped"
    summary: ClassVar[str] = "a source with other names"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        inner: RecordParser,
        *,
        columns: Mapping[str, str],
        label_names: Sequence[str],
        label_fields: Sequence[str],
    ) -> None:
        self._inner, self._columns = inner, dict(columns)
        self._names, self._fields = tuple(label_names), tuple(label_fields)

    def reading(self) -> str:
        """Say what is done to each row: with another mapping, a content is read again."""
        return json.dumps(
            [self._inner.name, self._columns, self._names, self._fields], sort_keys=True
        )

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ()
    ) -> Iterator[ParsedRow]:
        """Yield the rows of the inner parser under their new names."""
        theirs = {new: old for old, new in self._columns.items()}
        for parsed in self._inner.rows(path, limits, [theirs.get(name, name) for name in needed]):
            if parsed.row is None:
                yield parsed
            else:
                row = self._renamed(parsed.row)
                yield ParsedRow(parsed.number, row, parsed.problem, parsed.raw, parsed.warnings)

    def _renamed(self, row: Mapping[str, object]) -> dict[str, object]:
        # What is renamed wins over a column that happens to have the new name.
        taken = set(self._columns.values())
        renamed = {
            self._columns.get(name, name): value
            for name, value in row.items()
            if name in self._columns or name not in taken
        }
        if self._names:
            for field in self._fields:
                if field in renamed:
                    renamed[field] = name_label(renamed[field], self._names)
        return renamed


def name_label(value: object, names: Sequence[str]) -> object:
    """Give the name of a numbered label, of each in a list; what is no such number stays.

    Example:
        >>> name_label(1, ["negative", "positive"]), name_label([0, 1], ["O", "B-city"])
        ('positive', ['O', 'B-city'])
    """
    if isinstance(value, list | tuple):
        return [name_label(item, names) for item in value]
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif (isinstance(value, float) and value.is_integer()) or (
        isinstance(value, str) and value.strip().isdigit()
    ):
        number = int(value)
    return names[number] if number is not None and 0 <= number < len(names) else value
