"""Choosing records by id, file, label or time, for hold, release and forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.schema import files, records
from contlearn.data.intake.checking import group_hash
from contlearn.data.intake.known import has_label
from contlearn.errors import UsageError

__all__ = ["Selection", "conditions", "select_records"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records: those of the ids, or those that fit everything else that is given.

    `files` are names as they came, or content hashes; times are when the file was taken in, the
    end exclusive. `separator` joins the labels in a record's key, as the task says.
    """

    record_ids: Sequence[str] = ()
    files: Sequence[str] = ()
    labels: Sequence[str] = ()
    states: Sequence[str] = ()
    groups: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    separator: str | None = None

    def __bool__(self) -> bool:
        return bool(
            self.record_ids
            or self.files
            or self.labels
            or self.states
            or self.groups
            or self.since
            or self.until
        )


def select_records(catalog: Catalog, selection: Selection) -> list[str]:
    """Give the ids of the records that are meant, in the order of arrival.

    Raises:
        UsageError: When nothing is named, or an id is not known: a typing error must not pass for
            a record that is gone.
    """
    if not selection:
        raise UsageError(
            "No record is named.",
            where="the selection",
            hint="Name record ids, or choose by file, label or time.",
        )
    if selection.record_ids:
        return _known_ids(catalog, selection.record_ids)
    query = (
        sa.select(records.c.record_id)
        .join(files, files.c.file_id == records.c.file_id)
        .where(*conditions(selection))
    )
    with catalog.read() as connection:
        return list(connection.execute(query.order_by(records.c.seq)).scalars())


def conditions(selection: Selection) -> list[sa.ColumnElement[bool]]:
    """Give what must hold of rows of `records` joined with `files`; ids are none of it."""
    found: list[sa.ColumnElement[bool]] = []
    if selection.files:
        found.append(
            sa.or_(files.c.name.in_(selection.files), files.c.content_hash.in_(selection.files))
        )
    if selection.labels:
        any_of = (has_label(name, separator=selection.separator) for name in selection.labels)
        found.append(sa.or_(*any_of))
    if selection.groups:
        found.append(records.c.group_key.in_([group_hash(one) for one in selection.groups]))
    if selection.states:
        found.append(records.c.state.in_(selection.states))
    if selection.since is not None:
        found.append(records.c.received_at >= selection.since.isoformat())
    if selection.until is not None:
        found.append(records.c.received_at < selection.until.isoformat())
    return found


def _known_ids(catalog: Catalog, record_ids: Sequence[str]) -> list[str]:
    wanted = list(dict.fromkeys(record_ids))
    with catalog.read() as connection:
        known = catalog.ids.find_ids(connection, wanted)
    missing = [record_id for record_id in wanted if record_id not in known]
    if missing:
        raise UsageError(
            f"There is no record {missing[0]!r}"
            + (f", nor {len(missing) - 1} more that were named." if len(missing) > 1 else "."),
            where="the selection",
            hint="`contlearn data list` shows record ids; nothing was changed.",
        )
    return wanted
