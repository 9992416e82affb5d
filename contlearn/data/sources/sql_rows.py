"""The rows of a SQL query as JSON lines, from where the last fetch ended."""

from __future__ import annotations

import os
import re
import sqlite3
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa

from contlearn.config import SourceConfig
from contlearn.errors import RecordError
from contlearn.redaction import redact
from contlearn.workspace import narrow, narrowest

__all__ = ["expand_variables", "fetch_query", "source_failed"]

_FETCH_ROWS: Final = 1_000
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "int": int,
    "float": float,
    "str": str,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


def source_failed(source: SourceConfig, what: str, hint: str) -> RecordError:
    """Make the error of a source that could not be fetched; the others go on.

    Libraries quote the address they were given, with what `${NAME}` stood for in it.
    """
    secrets = [os.environ.get(name, "") for name in _VARIABLE.findall(source.url)]
    secrets += [value for value in source.options.values() if isinstance(value, str)]
    return RecordError(
        f"The source {source.name!r}: {redact(what, *secrets)}", where="source-failed", hint=hint
    )


def expand_variables(source: SourceConfig, value: str) -> str:
    """Put variables of the environment in the place of ${NAME}.

    Raises:
        RecordError: When one is not set.
    """

    def one(match: re.Match[str]) -> str:
        try:
            return os.environ[match[1]]
        except KeyError:
            raise source_failed(
                source,
                f"the variable {match[1]} is not set.",
                f"Set {match[1]} in the environment of contlearn, or correct sources.url.",
            ) from None

    return _VARIABLE.sub(one, value)


def fetch_query(
    source: SourceConfig, last: Mapping[str, str] | None, root: Path, target: Path
) -> tuple[int, dict[str, str] | None]:
    """Write the rows of a query as JSON lines, at most `max_rows`.

    Nobody may read those of a SQLite file who may not read the file.

    Args:
        source: Of kind sql.
        last: The cursor of the last row that was taken in before, as this function gave it.
        root: What a relative path of a SQLite file is relative to.
        target: The file to write.
    Returns:
        How many rows, and the cursor after them.
    Raises:
        RecordError: When the database cannot be reached, or the query is not fit.
    """
    url = sa.engine.make_url(expand_variables(source, source.url))
    shown = redact(url.render_as_string(hide_password=True), url.password or "")
    try:
        engine = _engine(url, root)
        try:
            found = _write_rows(source, last, engine, target)
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, sqlite3.Error, ImportError) as error:
        text = str(getattr(error, "orig", None) or error).strip().splitlines()
        hint = "Check sources.url and sources.query in contlearn.toml."
        if isinstance(error, ImportError | sa.exc.NoSuchModuleError):
            hint = "Install the driver; for PostgreSQL: pip install 'contlearn[postgres]'"
        raise source_failed(source, f"{shown}: {text[0] if text else error}.", hint) from error
    if url.get_backend_name() == "sqlite":
        narrow(target, narrowest([_file_of(url, root)]))
    return found


def _engine(url: sa.engine.URL, root: Path) -> sa.Engine:
    pool = sa.pool.NullPool
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, poolclass=pool)
    # Opened for reading only: a mistyped path must not leave an empty database behind.
    path = urllib.parse.quote(str(_file_of(url, root).resolve()))
    return sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0),
        poolclass=pool,
    )


def _file_of(url: sa.engine.URL, root: Path) -> Path:
    return root / (url.database or "")


def _write_rows(
    source: SourceConfig, last: Mapping[str, str] | None, engine: sa.Engine, target: Path
) -> tuple[int, dict[str, str] | None]:
    values: dict[str, object] = {}
    if source.cursor:
        values["cursor"] = source.start if last is None else _READERS[last["type"]](last["value"])
    options: dict[str, Any] = {"stream_results": True, "yield_per": _FETCH_ROWS}
    if engine.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    number, newest = 0, values.get("cursor")
    with engine.connect() as connection, target.open("wb") as file:
        result = connection.execution_options(**options).execute(sa.text(source.query), values)
        names = list(result.keys())
        _check_names(source, names)
        for row in result:
            if number == source.max_rows:
                if not source.cursor:
                    raise source_failed(
                        source,
                        f"the query gives more than {source.max_rows:,} rows.",
                        "Raise sources.max_rows, or name a cursor, so that a fetch can go on.",
                    )
                break
            fields = dict(zip(names, row, strict=True))
            if source.cursor:
                newest = _later(source, newest, fields[source.cursor])
            file.write(orjson.dumps(fields, default=_plain, option=orjson.OPT_NON_STR_KEYS) + b"\n")
            number += 1
    return number, _as_cursor(newest) if source.cursor else None


def _check_names(source: SourceConfig, names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise source_failed(
            source,
            f"the query gives two columns named {twice[0]!r}.",
            "Name one of them otherwise, with AS.",
        )
    if source.cursor and source.cursor not in names:
        raise source_failed(
            source,
            f"the query does not give the cursor {source.cursor!r}; it gives {', '.join(names)}.",
            "Select that column too.",
        )


def _later(source: SourceConfig, before: object, value: Any) -> object:
    """Check that the cursor ascends: else a fetch that is cut would lose rows."""
    try:
        if value >= before:
            return value
    except TypeError:
        raise source_failed(
            source,
            f"the cursor {source.cursor!r} is {value!r} after {before!r}.",
            "Use a column without NULL, and a start of its type.",
        ) from None
    raise source_failed(
        source,
        f"the cursor {source.cursor!r} goes back from {before!r} to {value!r}.",
        f"End the query in ORDER BY {source.cursor}.",
    )


def _as_cursor(value: object) -> dict[str, str]:
    for name, kind in (
        ("int", int),
        ("float", float),
        ("decimal", Decimal),
        ("datetime", datetime),
        ("date", date),
    ):
        if isinstance(value, kind):
            shown = value.isoformat() if isinstance(value, date) else str(value)
            return {"type": name, "value": shown}
    return {"type": "str", "value": str(value)}


def _plain(value: object) -> object:
    """Give what JSON has no form for: numbers as numbers, text in bytes as text."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, time | timedelta):
        return str(value)
    if isinstance(value, bytes | memoryview):
        data = bytes(value)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return {"bytes": data.hex()}
    return str(value)
