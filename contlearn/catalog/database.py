"""Opening a catalog, and transactions on it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from contlearn.catalog import schema
from contlearn.catalog.ids import IdIndex
from contlearn.catalog.migrations import migrate
from contlearn.catalog.rows import insert_if_absent
from contlearn.errors import CatalogUnreachable, ConfigError, StorageError
from contlearn.processes.facts import command_of, file_locks, is_stopped
from contlearn.workspace import storage_border

__all__ = ["Catalog"]

_BUSY_SECONDS: Final = 30.0
# SQLSTATE of a server that ends, was ended, or is not up yet; all of class 08, too.
_AWAY: Final = frozenset({"57P01", "57P02", "57P03"})
# Who changes the tables of a server's catalog holds this lock: "contlearn" as a number.
_SCHEMA_LOCK: Final = 0x636F6E746C656172
# A server ends a transaction that says nothing for so long: its process stands still in it.
_IDLE_SECONDS: Final = 120.0
# What libpq is told unless the URL says otherwise: a server that is gone must not hang a process.
_POSTGRES: Final = {"connect_timeout": 10, "tcp_user_timeout": 30_000, "keepalives_idle": 30}


class Catalog:
    """One database with the tables of `schema`. Cheap to open; close it when done.

    Args:
        url: An SQLAlchemy URL; a SQLite file and its folder are made when missing. A path with
            blanks, `%` or `?` is given as a URL made of parts, never as a string.
        ids: Where the index of record ids is kept; beside the file for SQLite.
    Raises:
        ConfigError: When there is no driver for the database.
        CatalogUnreachable: When its server is away.
        StorageError: When the database cannot be opened, or was made by a newer contlearn.
    """

    def __init__(self, url: str | sa.URL, *, ids: Path | None = None) -> None:
        self.url = sa.engine.make_url(url)
        is_sqlite = self.url.get_backend_name() == "sqlite"
        # None for a database in memory, and on a server.
        self.file: Path | None = None
        if is_sqlite and self.url.database not in (None, "", ":memory:"):
            self.file = Path(str(self.url.database))
        if is_sqlite:
            ids = None if self.file is None else Path(f"{self.file}.ids")
        self.ids = IdIndex(ids)
        if self.file is not None:
            with storage_border("make the catalog's folder", self.file.parent):
                self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.engine: Engine = sa.create_engine(
                self.url,
                connect_args={"timeout": _BUSY_SECONDS} if is_sqlite else _server_options(self.url),
                pool_pre_ping=not is_sqlite,
            )
        # ImportError without more: psycopg is there, and finds no libpq.
        except (ImportError, sa.exc.NoSuchModuleError) as error:
            raise ConfigError(
                f"The catalog's database cannot be used from here: {error}.",
                where="storage.catalog in contlearn.toml",
                hint="PostgreSQL is named postgresql+psycopg://user@host/database, and needs "
                "`pip install 'contlearn[postgres]'`.",
            ) from error
        if is_sqlite:
            sa.event.listen(self.engine, "connect", _set_up_sqlite)
            # pysqlite opens transactions late by itself; we open them, at once, for writing.
            sa.event.listen(self.engine, "begin", _begin_immediate)
        try:
            self._prepare()
        except sa.exc.DBAPIError as error:
            self.engine.dispose()
            kind = CatalogUnreachable if self._is_away(error) else StorageError
            raise kind(
                f"The catalog cannot be opened: {_why_closed(error, self.url)}.",
                where=self.place,
                hint="Check storage.catalog in contlearn.toml, and the free space on the disk.",
            ) from error

    @property
    def is_file(self) -> bool:
        """Whether it is a SQLite file, whose users all see each other's locks."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def place(self) -> str:
        """Where it is, for messages: the file, or the URL without its password."""
        return str(self.file) if self.file is not None else str(self.url)

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """The files on which SQLite keeps its locks; none for a server."""
        if self.file is None:
            return ()
        return self.file, self.file.with_name(f"{self.file.name}-shm")

    def writers(self) -> tuple[int, ...]:
        """List the other processes that hold SQLite's locks for writing now."""
        locks = file_locks(*self.lock_files)
        return tuple(dict.fromkeys(lock.pid for lock in locks if lock.is_write))

    def _prepare(self) -> None:
        if self._is_ready():
            return
        with self.write() as connection:
            if connection.dialect.name == "postgresql":
                # Two that open an empty database at once make its tables one after the other.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            migrate(connection)
            schema.metadata.create_all(connection)
            version = {"key": "schema_version", "value": str(schema.SCHEMA_VERSION)}
            insert_if_absent(connection, schema.meta, version)

    def _is_ready(self) -> bool:
        with self.engine.connect().execution_options(read_only=True) as connection:
            if not sa.inspect(connection).has_table("meta"):
                return False
            query = sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")
            found = int(connection.execute(query).scalar_one())
        if found > schema.SCHEMA_VERSION:
            raise StorageError(
                f"The catalog has schema version {found}; this contlearn knows "
                f"{schema.SCHEMA_VERSION}.",
                where=self.place,
                hint="Use the newer contlearn that wrote it.",
            )
        return found == schema.SCHEMA_VERSION

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a block as one transaction that writes; an exception undoes it."""
        with self._border(), self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                _bound_waiting(connection)
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a block that reads, on one consistent view."""
        with (
            self._border(),
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
    def _border(self) -> Iterator[None]:
        """Translate the database's operational errors; nothing was written when they appear."""
        try:
            yield
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
            text = str(getattr(error, "orig", None) or error).strip()
            if "full" in text or "No space left" in text:
                what, hint = (
                    "The disk is full: the catalog could not be written.",
                    "Free some space",
                )
            elif "readonly" in text:
                what = "The catalog cannot be written: its file or file system is read-only."
                hint = "Make it writable"
            elif "locked" in text or "lock timeout" in text:
                what, hint = (
                    f"The catalog is busy{self._by_whom()}.",
                    "Another process holds it; wait",
                )
            else:
                what, hint = f"The catalog failed: {text}.", "Check the database"
            kind = CatalogUnreachable if self._is_away(error) else StorageError
            raise kind(
                what, where=self.place, hint=f"{hint}, then run the same command again."
            ) from error

    def _is_away(self, error: sa.exc.SQLAlchemyError) -> bool:
        """Say whether the server could not be reached; what a server answers has a SQLSTATE."""
        if self.is_file or not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
            return False
        state = str(getattr(error.orig, "sqlstate", None) or "08")
        return state in _AWAY or state.startswith("08")

    def _by_whom(self) -> str:
        said = [
            f"process {pid} ({command_of(pid) or 'not to be seen'})"
            + (", which was stopped," if is_stopped(pid) else "")
            for pid in self.writers()
        ]
        return f": {' and '.join(said)} writes into it" if said else ""


def _server_options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() != "postgresql" or "psycopg" not in url.get_driver_name():
        return {}
    return {name: value for name, value in _POSTGRES.items() if name not in url.query}


def _bound_waiting(connection: Connection) -> None:
    """Wait for another's lock as long as SQLite does, and let the server end who stands still."""
    limits = {
        "lock_timeout": _BUSY_SECONDS,
        "idle_in_transaction_session_timeout": _IDLE_SECONDS,
    }
    connection.execute(
        sa.select(*(sa.func.set_config(k, str(int(1000 * v)), True) for k, v in limits.items()))
    )


def _why_closed(error: sa.exc.DBAPIError, url: sa.engine.URL) -> str:
    """Say why a database cannot be opened; SQLite does not say that it may not write beside it."""
    folder = Path(url.database or ".").parent
    if url.get_backend_name() == "sqlite" and folder.is_dir() and not os.access(folder, os.W_OK):
        return f"{folder} cannot be written (read-only, or another user's)"
    return str(error.orig)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    _turn_on_log(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _turn_on_log(cursor: Any) -> None:
    """Let the file be written through a log beside it.

    The first time this changes the file itself, and of several that do so at once SQLite tells one
    that the file is locked without waiting for it.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_immediate(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
