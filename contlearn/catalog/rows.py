"""One row by its key: read, and written in one statement, so that two may do so at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["chunks", "get", "insert_if_absent", "put"]

_CHUNK: Final = 500
T = TypeVar("T")


def chunks(items: Sequence[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces that fit one statement's parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def get(connection: Connection, table: sa.Table, key: str) -> sa.Row[Any] | None:
    """Give the row of a key; None where there is none."""
    (column,) = table.primary_key
    return connection.execute(sa.select(table).where(column == key)).first()


def insert_if_absent(connection: Connection, table: sa.Table, *rows: Mapping[str, Any]) -> None:
    """Insert those of the rows whose key is not there yet."""
    statement = _insert(connection, table).on_conflict_do_nothing()
    connection.execute(statement, [dict(row) for row in rows])


def put(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    """Insert a row, or change the one that has its key."""
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in row.items() if name not in keys}
    insert = _insert(connection, table).values(dict(row))
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=rest))


def _insert(connection: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    # Only the database's own: the other's drivers cost a tenth of the start of a command.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)
