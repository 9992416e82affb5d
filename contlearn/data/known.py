"""What the catalog knows already of the texts and groups of a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.records import chunks
from contlearn.catalog.schema import labels, records

__all__ = [
    "KnownRecord",
    "add_labels",
    "has_records",
    "known_groups",
    "known_labels",
    "known_records",
]

TEXT_DIGITS: Final = 24
# A table of this session alone: joining with it is one pass over an index, in the index's order.
_wanted = sa.Table(
    "wanted_texts",
    sa.MetaData(),
    sa.Column("prefix", sa.String(TEXT_DIGITS), primary_key=True),
    prefixes=["TEMPORARY"],
)
# Up to this many texts are asked for one by one: cheaper than a table.
_FEW: Final = 200
_AT_ONCE: Final = 50_000


@dataclass(frozen=True, slots=True)
class KnownRecord:
    """A record of the catalog that has the text of a row."""

    record_id: str
    held_out: bool
    forgotten: bool
    key: str

    @property
    def text(self) -> str:
        """The part of the id that stands for the text."""
        return self.record_id[:TEXT_DIGITS]

    @property
    def target(self) -> int:
        """The part of the id that stands for the target."""
        return int(self.record_id[TEXT_DIGITS:], 16)


def insert_rows(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[tuple[object, ...]],
) -> None:
    """Insert many rows through the driver itself; a million would spend seconds in between."""
    compiled = table.insert().compile(dialect=connection.dialect, column_keys=list(columns))
    values: Any = (
        rows if compiled.positional else [dict(zip(columns, row, strict=True)) for row in rows]
    )
    connection.exec_driver_sql(str(compiled), values)


def has_records(connection: Connection) -> bool:
    """Say whether the catalog holds any record."""
    return connection.execute(sa.select(records.c.seq).limit(1)).first() is not None


def known_records(connection: Connection, texts: Iterable[str], number: int) -> list[KnownRecord]:
    """Give all records whose id begins with one of these.

    Args:
        connection: To the catalog.
        texts: The beginnings of ids that stand for texts, ascending; taken only as needed.
        number: How many there are.
    """
    columns = (records.c.record_id, records.c.split, records.c.state, records.c.key)
    found: list[KnownRecord] = []
    if number <= _FEW:
        # "g" follows the last hex digit, so the range holds exactly the ids with this beginning.
        query = sa.select(*columns).where(
            records.c.record_id >= sa.bindparam("low"), records.c.record_id < sa.bindparam("high")
        )
        for text in texts:
            rows = connection.execute(query, {"low": text, "high": text + "g"})
            found.extend(_known(*row) for row in rows)
        return found
    joined = sa.select(*columns).select_from(
        _wanted.join(
            records,
            sa.and_(
                records.c.record_id >= _wanted.c.prefix,
                records.c.record_id < _wanted.c.prefix + "g",
            ),
        )
    )
    _wanted.create(connection)
    try:
        texts = iter(texts)
        while some := list(itertools.islice(texts, _AT_ONCE)):
            connection.execute(_wanted.delete())
            insert_rows(connection, _wanted, ("prefix",), [(text,) for text in some])
            found.extend(_known(*row) for row in connection.execute(joined))
    finally:
        _wanted.drop(connection)
    return found


def _known(record_id: str, split: str, state: str, key: str) -> KnownRecord:
    return KnownRecord(record_id, split == "held_out", state == "forgotten", key)


def known_groups(connection: Connection, group_keys: Sequence[str]) -> Mapping[str, bool]:
    """Say for each known group whether it is held out."""
    sides: dict[str, bool] = {}
    for some in chunks(list(group_keys)):
        query = (
            sa.select(records.c.group_key, sa.func.min(records.c.split))
            .where(records.c.group_key.in_(some), records.c.group_key.is_not(None))
            .group_by(records.c.group_key)
        )
        for row in connection.execute(query):
            sides[str(row[0])] = row[1] == "held_out"
    return sides


def known_labels(connection: Connection) -> list[str]:
    """Give every label a record ever had."""
    return list(connection.execute(sa.select(labels.c.name).order_by(labels.c.name)).scalars())


def add_labels(connection: Connection, names: Iterable[str], file_id: int) -> None:
    """Remember labels that are new."""
    there = set(known_labels(connection))
    new = [{"name": name, "file_id": file_id} for name in dict.fromkeys(names) if name not in there]
    if new:
        connection.execute(labels.insert(), new)
