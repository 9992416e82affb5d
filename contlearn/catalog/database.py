"""Opening a catalog, and transactions on it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from contlearn.catalog import schema
from contlearn.catalog.ids import IdIndex
from contlearn.catalog.migrations import migrate
from contlearn.errors import StorageError

__all__ = ["Catalog"]


class Catalog:
    """One database with the tables of `schema`. Cheap to open; close it when done.

    Args:
        url: An SQLAlchemy URL; a SQLite file and its folder are made when missing.
        ids: Where the index of record ids is kept; beside the file for SQLite.
    Raises:
        StorageError: When the database cannot be opened, or was made by a newer contlearn.
    """

    def __init__(self, url: str, *, ids: Path | None = None) -> None:
        self.url = sa.engine.make_url(url)
        is_sqlite = self.url.get_backend_name() == "sqlite"
        if is_sqlite:
            file = self.url.database
            ids = None if file in (None, "", ":memory:") else Path(f"{file}.ids")
        self.ids = IdIndex(ids)
        if is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = sa.create_engine(
            self.url, connect_args={"timeout": 30.0} if is_sqlite else {}
        )
        if is_sqlite:
            sa.event.listen(self.engine, "connect", _set_up_sqlite)
            # pysqlite opens transactions late by itself; we open them, at once, for writing.
            sa.event.listen(self.engine, "begin", _begin_immediate)
        try:
            self._prepare()
        except sa.exc.DBAPIError as error:
            raise StorageError(
                f"The catalog cannot be opened: {_why_closed(error, self.url)}.",
                where=str(self.url),
                hint="Check storage.catalog in contlearn.toml, and the free space on the disk.",
            ) from error

    def _prepare(self) -> None:
        with self.engine.connect().execution_options(read_only=True) as connection:
            if sa.inspect(connection).has_table("meta"):
                query = sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")
                found = int(connection.execute(query).scalar_one())
                if found > schema.SCHEMA_VERSION:
                    raise StorageError(
                        f"The catalog has schema version {found}; this contlearn knows "
                        f"{schema.SCHEMA_VERSION}.",
                        where=str(self.url),
                        hint="Use the newer contlearn that wrote it.",
                    )
                if found == schema.SCHEMA_VERSION:
                    return
        with self.write() as connection:
            migrate(connection)
            schema.metadata.create_all(connection)
            exists = connection.execute(
                sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")
            ).first()
            if exists is None:
                connection.execute(
                    schema.meta.insert().values(
                        key="schema_version", value=str(schema.SCHEMA_VERSION)
                    )
                )

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a block as one transaction that writes; an exception undoes it."""
        with _border(self.url), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a block that reads, on one consistent view."""
        with (
            _border(self.url),
            self.engine.connect().execution_options(read_only=True) as connection,
        ):
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _border(url: sa.engine.URL) -> Iterator[None]:
    """Translate the database's operational errors; nothing was written when they appear."""
    try:
        yield
    except sa.exc.OperationalError as error:
        text = str(error.orig)
        if "full" in text:
            what, hint = "The disk is full: the catalog could not be written.", "Free some space"
        elif "readonly" in text:
            what = "The catalog cannot be written: its file or file system is read-only."
            hint = "Make it writable"
        elif "locked" in text:
            what, hint = "The catalog is busy.", "Another process holds it; wait"
        else:
            what, hint = f"The catalog failed: {text}.", "Check the database"
        raise StorageError(
            what, where=str(url), hint=f"{hint}, then run the same command again."
        ) from error


def _why_closed(error: sa.exc.DBAPIError, url: sa.engine.URL) -> str:
    """Say why a database cannot be opened; SQLite does not say that it may not write beside it."""
    folder = Path(url.database or ".").parent
    if url.get_backend_name() == "sqlite" and folder.is_dir() and not os.access(folder, os.W_OK):
        return f"{folder} cannot be written (read-only, or another user's)"
    return str(error.orig)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
