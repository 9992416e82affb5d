"""The tables of the catalog. Texts are never in it: they are in the Parquet segments."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
)
from sqlalchemy.engine import Connection

SCHEMA_VERSION: Final = 5

metadata = MetaData()

# What is known of the whole catalog, a row each: the version of this schema, the workspace it
# belongs to (`catalog.belonging`), the batches tried in parts (`catalog.parts`), the last cycle
# before records were released, run keys with nothing to do (`cycle.repeating`), and what
# `cycle.changes` remembers.
meta = Table(
    "meta",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)

# A file that was taken in, or refused whole. One row for each content: the same bytes twice is
# one file. The row, its records and its labels appear in one transaction.
files = Table(
    "files",
    metadata,
    Column("file_id", Integer, primary_key=True, autoincrement=True),
    Column("content_hash", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("held_out", Boolean, nullable=False, default=False),
    # What the outcome depends on besides the content: with other settings it is read again.
    Column("settings", String(16), nullable=False),
    Column("received_at", String(32), nullable=False),
    Column("verdict", String(10), nullable=False),  # ok, partial, reject
    Column("reason", String(40)),
    Column("message", Text),
    Column("rows", Integer, nullable=False, default=0),
    Column("accepted", Integer, nullable=False, default=0),
    Column("duplicates", Integer, nullable=False, default=0),
    Column("conflicts", Integer, nullable=False, default=0),
    Column("rejected", Integer, nullable=False, default=0),
    Column("segment", Text),
    Column("quarantine", Text),
    Index("files_by_content", "content_hash", "held_out", "settings", unique=True),
)

# A record: where its text is, which side of the split it is on, and what became of it.
# A record_id is the hash of the normalised input (24 digits) and of the target (8): records of one
# text have ids that begin alike. Ids are found through `catalog.ids`, not through an index here. An
# id whose record counts no longer may stand here once more, as a record that came again.
records = Table(
    "records",
    metadata,
    Column("seq", Integer, primary_key=True),  # in the order of arrival, file by file
    Column("record_id", String(32), nullable=False),
    Column("group_key", String(32)),  # hash of the group, where the row named one
    Column("file_id", Integer, ForeignKey("files.file_id"), nullable=False),  # has the segment
    Column("row", Integer, nullable=False),  # position in the segment
    Column("split", String(8), nullable=False),  # train, held_out
    Column("state", String(10), nullable=False),  # as in `types.RecordState`
    Column("attempts", Integer, nullable=False, default=0),  # cycles that tried it
    Column("reason", Text),  # why it is held
    Column("key", Text, nullable=False),  # the balance key: the class, the entity types
    Column("size_bytes", Integer, nullable=False, default=0),
    Column("received_at", String(32), nullable=False),
    Column("cycle_id", String(40)),  # the cycle that has it, or had it last
    Column("part", BigInteger),  # tried by itself, as updates with it failed: see `catalog.parts`
    Index("records_by_state", "state", "split", "attempts"),
)
# Partial, so that a row without a group or a cycle costs nothing here.
_PARTIAL: Final = (
    Index("records_by_group", records.c.group_key),
    Index("records_by_cycle", records.c.cycle_id),
)


@event.listens_for(metadata, "before_create")
def _make_partial(_metadata: MetaData, connection: Connection, **_: object) -> None:
    """Make them so on the database at hand: to name another's options would load its drivers."""
    for index in _PARTIAL:
        (column,) = index.columns
        index.dialect_options[connection.dialect.name]["where"] = column.is_not(None)


# Every label that a record ever had, as users know it: the class, the entity type.
labels = Table(
    "labels",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("file_id", Integer, ForeignKey("files.file_id"), nullable=False),  # brought it first
)

# An update, from plan to end. What the child is told and what it answered are files of its folder.
cycles = Table(
    "cycles",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("cycle_id", String(40), nullable=False, unique=True),
    Column("run_key", String(120), unique=True),  # one cause starts one cycle
    Column("trigger", String(40), nullable=False),
    Column("state", String(20), nullable=False),
    Column("outcome", String(20)),
    Column("strategy", String(60), nullable=False),
    Column("champion", Integer),  # the version it started from
    Column("version", Integer),  # the version it registered
    Column("experience", Integer, nullable=False),  # t, if it is promoted
    Column("promote", Boolean, nullable=False, default=True),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("progress", JSON),  # empty; an earlier contlearn that shares the catalog reads it
    Column("reasons", JSON),
    Column("metrics", JSON),
    Column("numbers", JSON),  # seconds per stage, records new and replayed, memory
    Column("error", Text),
)

# Which records a cycle planned to learn or to measure on; kept for history and rollback.
cycle_records = Table(
    "cycle_records",
    metadata,
    Column("cycle_id", String(40), primary_key=True),
    Column("record_id", String(32), primary_key=True),
    Column("role", String(8), nullable=False),  # train, held_out
    Column("seq", Integer),  # of the record
)

# Who may do what now. A lease is taken over when it has expired or its holder is gone.
leases = Table(
    "leases",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("owner", String(120), nullable=False),  # see `processes.facts.current_owner`
    Column("token", BigInteger, nullable=False),  # grows with every holder: a fencing counter
    Column("expires_at", Float, nullable=False),  # seconds since the epoch
    Column("purpose", Text, nullable=False, default=""),
)

# What was served last, so that a restart neither repeats nor forgets it: the schedule, a request,
# the minutes of a day (`cycle.causes`), each source with what was fetched of it, notifications.
triggers = Table(
    "triggers",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("fired_at", String(32)),
    Column("detail", JSON),
)
