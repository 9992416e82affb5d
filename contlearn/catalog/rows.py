"""Writing a row that may be there already, in one statement, so that two may do so at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert_if_absent", "put"]


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
