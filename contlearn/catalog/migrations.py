"""Bringing a catalog of an earlier schema up to this one, in the transaction that opens it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog import schema

__all__ = ["migrate"]


def migrate(connection: Connection) -> None:
    """Change the tables of an earlier version; a new catalog has none yet."""
    if not sa.inspect(connection).has_table("meta"):
        return
    version = schema.meta.c.key == "schema_version"
    found = connection.execute(sa.select(schema.meta.c.value).where(version)).scalar()
    if found == "1":
        _to_version_2(connection)
    if found in ("1", "2"):
        _to_version_3(connection)
    if found in ("1", "2", "3"):
        _to_version_4(connection)
    if found in ("1", "2", "3", "4"):
        # Cycles and records may be kept. Nothing is changed; but an earlier contlearn would take
        # such a cycle for an interrupted one and run it again, so it must not open this catalog.
        connection.execute(schema.meta.update().where(version).values(value="5"))


def _to_version_2(connection: Connection) -> None:
    """Ids are found through files of their own; cycles know their records by number."""
    connection.exec_driver_sql("DROP INDEX records_by_id")
    connection.exec_driver_sql("ALTER TABLE cycle_records ADD COLUMN seq INTEGER")
    connection.exec_driver_sql(
        "UPDATE cycle_records SET seq = (SELECT records.seq FROM records "
        "WHERE records.record_id = cycle_records.record_id)"
    )


def _to_version_3(connection: Connection) -> None:
    """Records that made updates fail are tried in parts."""
    connection.exec_driver_sql("ALTER TABLE records ADD COLUMN part BIGINT")


def _to_version_4(connection: Connection) -> None:
    """A superseded label is a fact of its own; it was held until then, and could be released."""
    connection.execute(
        schema.records.update()
        .where(
            schema.records.c.state == "held",
            schema.records.c.reason.startswith("superseded by a newer label in "),
        )
        .values(state="superseded")
    )
