"""What the catalog knows already of the texts and groups of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.counting import counts
from contlearn.catalog.ids import HEAD_DIGITS, IdIndex, in_rows
from contlearn.catalog.rows import chunks, insert_if_absent
from contlearn.catalog.schema import labels, records
from contlearn.errors import UsageError
from contlearn.tasks.rows import near_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from contlearn.config import DataConfig

__all__ = [
    "KnownRecord",
    "add_labels",
    "chosen_labels",
    "has_label",
    "known_groups",
    "known_labels",
    "known_records",
    "label_rows",
]

TEXT_DIGITS: Final = 24
_AT_ONCE: Final = 20_000
# So many names are looked through for the near one.
_MAX_NEAR: Final = 2_000


@dataclass(frozen=True, slots=True)
class KnownRecord:
    """A record of the catalog that has the text of a row."""

    record_id: str
    held_out: bool
    forgotten: bool
    key: str
    superseded: bool = False

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


def known_records(
    connection: Connection, ids: IdIndex, digests: NDArray[np.void]
) -> list[KnownRecord]:
    """Give all records that have the text of one of these rows.

    Args:
        connection: To the catalog.
        ids: The catalog's index of ids.
        digests: One `DIGEST` a row.
    """
    import numpy as np

    high, low = digests["high"].astype(np.uint64), digests["low"].astype(np.uint64)
    rows, heads = ids.find(connection, np.unique(high))
    if not len(rows):
        return []
    # Two texts may have the same first eight bytes: the next four decide.
    mine = np.isin(high, heads)
    wanted = set(zip(high[mine].tolist(), low[mine].tolist(), strict=True))
    query = sa.select(records.c.record_id, records.c.split, records.c.state, records.c.key)
    found: list[KnownRecord] = []
    for start in range(0, len(rows), _AT_ONCE):
        some = np.sort(rows[start : start + _AT_ONCE]).tolist()
        for row in connection.execute(query.where(in_rows(some))):
            text = (int(row[0][:HEAD_DIGITS], 16), int(row[0][HEAD_DIGITS:TEXT_DIGITS], 16))
            if text in wanted:
                found.append(_known(*row))
    return found


def _known(record_id: str, split: str, state: str, key: str) -> KnownRecord:
    return KnownRecord(
        record_id, split == "held_out", state == "forgotten", key, state == "superseded"
    )


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


def has_label(label: str, *, separator: str | None) -> sa.ColumnElement[bool]:
    """Say which records have a label, alone or among others.

    Args:
        label: As a person knows it.
        separator: What joins the labels in a record's key, as the task says.
    """
    key = records.c.key
    if separator is None:
        return key == label
    # Not LIKE: SQLite compares there without regard to case.
    within = sa.literal(separator) + key + sa.literal(separator)
    return sa.func.replace(within, f"{separator}{label}{separator}", "") != within


def label_rows(connection: Connection, label: str, limit: int, *, separator: str | None) -> int:
    """Count the records that have a label, no further than the limit; what counts no longer not."""
    has = has_label(label, separator=separator)
    some = sa.select(sa.literal(1)).where(has, counts()).limit(limit)
    query = sa.select(sa.func.count()).select_from(some.subquery())
    return int(connection.execute(query).scalar_one())


def chosen_labels(connection: Connection, data: DataConfig, names: Iterable[str]) -> list[str]:
    """Give the labels that a person names: by an alias too, and never by a typing error.

    Raises:
        UsageError: When there is no such label.
    """
    known = {*known_labels(connection), *data.labels}
    found = []
    for name in names:
        label = name if name in known else data.label_aliases.get(name, name)
        if label not in known:
            near = near_label(name, sorted(known)[:_MAX_NEAR])
            raise UsageError(
                f"There is no label {name!r}." + (f" The nearest is {near!r}." if near else ""),
                where="--label",
                hint="`contlearn data labels` lists them.",
            )
        found.append(label)
    return list(dict.fromkeys(found))


def add_labels(connection: Connection, names: Iterable[str], file_id: int) -> None:
    """Remember labels that are new."""
    there = set(known_labels(connection))
    new = [{"name": name, "file_id": file_id} for name in dict.fromkeys(names) if name not in there]
    if new:
        insert_if_absent(connection, labels, *new)
