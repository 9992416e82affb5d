"""What is replayed: records in the order of time, cut into experiences, each with rows apart.

Development rows are for choices (a tuned rate, the recommendation), test rows for figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from contlearn.config import LimitsConfig
from contlearn.context import Context
from contlearn.data.formats.tools import TOOL_FIELDS, read_answer
from contlearn.errors import RecordError, UsageError
from contlearn.interfaces import FieldNames, RowProblem, Task
from contlearn.papers.manifest import MANIFEST, read_manifest
from contlearn.plugins.manager import PluginManager
from contlearn.types import LabelledRecord, Split
from contlearn.workspace import read_json, write_bytes_atomic

__all__ = [
    "Step",
    "Stream",
    "load_stream",
    "save_stream",
    "stream_from_folder",
    "stream_from_rows",
    "stream_from_workspace",
]

_LEAST_ROWS: Final = 4
_PARTS: Final = ("train", "dev", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One experience: what is learnt, what choices are made on, what figures are measured on."""

    name: str
    train: tuple[LabelledRecord, ...]
    dev: tuple[LabelledRecord, ...]
    test: tuple[LabelledRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Experiences in the order they are learnt in."""

    task: str
    steps: tuple[Step, ...]

    @property
    def content_hash(self) -> str:
        """Identify the records and where they stand."""
        digest = hashlib.sha256(self.task.encode())
        for step in self.steps:
            for part in (step.train, step.dev, step.test):
                digest.update(b"|" + ",".join(r.record_id for r in part).encode())
        return digest.hexdigest()[:16]


def stream_from_rows(
    experiences: Mapping[str, Iterable[Mapping[str, object]]],
    *,
    task: str = "text-classification",
    fields: FieldNames | None = None,
    held_out: float = 0.25,
    manager: PluginManager | None = None,
) -> Stream:
    """Make a stream of labelled rows, such as {"text": …, "label": …}.

    Args:
        experiences: Rows by the name of their experience, in the order of learning.
        task: The task's name.
        fields: What the rows call their fields.
        held_out: The share of rows that is not learnt; half of it is for choices.
        manager: Where tasks are looked up.
    Raises:
        RecordError: When a row is wrong.
        UsageError: When there is nothing to compare on.
    """
    found = _task(manager, task)
    steps = []
    for name, rows in experiences.items():
        records = [
            _record(found, row, fields or FieldNames(), where=f"{name}, row {number}")
            for number, row in enumerate(rows, 1)
        ]
        steps.append(_split(name, records, held_out))
    return _checked(Stream(task=task, steps=tuple(steps)), "the rows given")


def stream_from_folder(
    folder: Path,
    *,
    task: str = "text-classification",
    fields: FieldNames | None = None,
    held_out: float = 0.25,
    manager: PluginManager | None = None,
) -> Stream:
    """Read a folder: a file for each experience, or a sub-folder with train, dev and test files.

    They are learnt in the order of their names. Every format that the inbox takes is read here.

    Raises:
        UsageError: When the folder holds no experience.
        RecordError: When a row is wrong.
    """
    manager = manager or PluginManager(discover=False)
    found, fields = _task(manager, task), fields or FieldNames()
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", where=str(folder), hint="Name a folder.")
    steps = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith(".md") or path.name == "labels.json":
            continue
        if path.is_file():
            records = _read(path, found, fields, manager)
            steps.append(_split(path.stem, records, held_out))
            continue
        parts = {
            part: [
                record
                for file in sorted(path.glob(f"{part}.*"))
                for record in _read(file, found, fields, manager)
            ]
            for part in _PARTS
        }
        if not parts["train"]:
            continue
        if parts["test"]:
            dev, test = tuple(parts["dev"]), tuple(parts["test"])
            if not dev:
                dev, test = _half(test)
            steps.append(Step(name=path.name, train=tuple(parts["train"]), dev=dev, test=test))
        else:
            steps.append(_split(path.name, parts["train"], held_out))
    return _checked(Stream(task=task, steps=tuple(steps)), str(folder))


def stream_from_workspace(context: Context, *, steps: int = 0) -> Stream:
    """Take the records that the champion has learnt, cycle by cycle, with their held-out rows.

    Args:
        context: The opened workspace.
        steps: Cut all records by their time into so many experiences instead; 0 keeps the cycles.
    Raises:
        UsageError: When fewer than two experiences come out.
    """
    from contlearn.catalog.records import experience_records
    from contlearn.data.store import read_records

    champion = context.registry.champion()
    if champion is None:
        raise UsageError(
            "Nothing was learnt here yet, so there is no history to replay.",
            where=str(context.workspace.root),
            hint="Name a folder of experiences with --folder, or run `contlearn update` first.",
        )
    manifest = read_manifest(context.workspace.versions / str(champion) / MANIFEST)
    found: list[tuple[str, Any, Any]] = []
    for cycle in manifest.lineage.experiences:
        parts: list[Any] = []
        for role in ("train", "held_out"):
            with context.catalog.read() as connection:
                ids = experience_records(connection, cycle, role)
            parts.append(read_records(context.workspace, context.catalog, ids))
        found.append((str(cycle), parts[0], parts[1]))
    if steps:
        found = _by_time(found, steps)
    made = []
    for name, train, held_out in found:
        dev, test = _half(held_out)
        made.append(Step(name=name, train=tuple(train), dev=dev, test=test))
    stream = Stream(task=context.config.model.task, steps=tuple(made))
    return _checked(stream, str(context.workspace.root))


def save_stream(stream: Stream, path: Path) -> None:
    """Write a stream for the processes that learn it. It holds texts: remove it afterwards.

    Only this user may read it, whatever it was made of.
    """
    value = {
        "task": stream.task,
        "steps": [
            {
                "name": step.name,
                **{part: [_to_json(r) for r in getattr(step, part)] for part in _PARTS},
            }
            for step in stream.steps
        ],
    }
    write_bytes_atomic(path, json.dumps(value, ensure_ascii=False).encode(), mode=0o600)


def load_stream(path: Path) -> Stream:
    """Read what `save_stream` wrote."""
    value = read_json(path)
    return Stream(
        task=value["task"],
        steps=tuple(
            Step(
                name=step["name"],
                train=tuple(map(_from_json, step["train"])),
                dev=tuple(map(_from_json, step["dev"])),
                test=tuple(map(_from_json, step["test"])),
            )
            for step in value["steps"]
        ),
    )


def _task(manager: PluginManager | None, name: str) -> Task:
    manager = manager or PluginManager(discover=False)
    found: Task = manager.task(name, where="--task")
    return found


def _read(
    path: Path, task: Task, fields: FieldNames, manager: PluginManager
) -> list[LabelledRecord]:
    """Read all rows of a file; a wrong one is an error, for a benchmark wants clean rows."""
    parsers = {
        suffix: item.implementation
        for item in reversed([*manager.table("parser").values()])  # the built-ins come last and win
        for suffix in item.implementation.suffixes
    }
    known = sorted((s for s in parsers if path.name.endswith(s)), key=len)
    if not known:
        raise RecordError(
            f"{path.name} has no known format.",
            where=str(path),
            hint=f"Known endings: {', '.join(sorted(parsers))}.",
        )
    parser = parsers[known[-1]]()
    records = []
    for row in parser.rows(path, LimitsConfig(), task.needed_fields(fields)):
        where = f"{path}, row {row.number}"
        if row.row is None:
            problem = row.problem
            raise RecordError(
                problem.message if problem else "The row cannot be read.",
                where=where,
                hint=(problem.hint if problem else "") or "Correct the row.",
            )
        records.append(_record(task, row.row, fields, where=where))
    return records


def _record(
    task: Task, row: Mapping[str, object], fields: FieldNames, *, where: str
) -> LabelledRecord:
    try:
        if not TOOL_FIELDS.isdisjoint(row):
            row = read_answer(row, fields, task)
        inputs, target = task.read_fields(row, fields)
    except RowProblem as problem:
        raise RecordError(
            problem.message, where=where, hint=problem.hint or "Correct the row."
        ) from problem
    identity = json.dumps([dict(inputs), target], sort_keys=True, ensure_ascii=False)
    return LabelledRecord(
        record_id=hashlib.sha256(identity.encode()).hexdigest(),
        inputs=inputs,
        target=target,
        split="train",
        source="benchmark",
        received_at=datetime(2000, 1, 1, tzinfo=UTC),
    )


def _split(name: str, records: Sequence[LabelledRecord], held_out: float) -> Step:
    """Set the rows with the least hashes aside: the same ones whatever the order of the rows."""
    unique = list({record.record_id: record for record in records}.values())
    count = max(2, round(held_out * len(unique)))
    order = sorted(unique, key=lambda record: _hash("apart", record))
    dev, test = _half(order[:count])
    return Step(name=name, train=tuple(order[count:]), dev=dev, test=test)


def _hash(salt: str, record: LabelledRecord) -> str:
    return hashlib.sha256(f"{salt}:{record.record_id}".encode()).hexdigest()


def _half(
    records: Sequence[LabelledRecord],
) -> tuple[tuple[LabelledRecord, ...], tuple[LabelledRecord, ...]]:
    """Cut held-out rows into a part for choices and a part for figures, by their hash."""
    order = sorted(records, key=lambda record: _hash("dev", record))
    return tuple(order[1::2]), tuple(order[::2])


def _by_time(found: Sequence[tuple[str, Any, Any]], steps: int) -> list[tuple[str, Any, Any]]:
    """Put all records in the order of time and cut them into equal stretches."""
    moments = sorted(
        (record.timestamp or record.received_at, record.record_id)
        for _, train, _ in found
        for record in train
    )
    edges = [moments[min(len(moments) - 1, len(moments) * i // steps)][0] for i in range(1, steps)]

    def place(record: LabelledRecord) -> int:
        return sum((record.timestamp or record.received_at) >= edge for edge in edges)

    cut: list[tuple[str, Any, Any]] = [(f"stretch {i + 1}", [], []) for i in range(steps)]
    for _, train, held_out in found:
        for record in train:
            cut[place(record)][1].append(record)
        for record in held_out:
            cut[place(record)][2].append(record)
    return [item for item in cut if item[1]]


def _checked(stream: Stream, where: str) -> Stream:
    if len(stream.steps) < 2:
        raise UsageError(
            f"There {'is one experience' if stream.steps else 'are no experiences'}; strategies "
            "differ from the second on.",
            where=where,
            hint="Bring two or more: a file or sub-folder for each, or --steps N.",
        )
    for step in stream.steps:
        if len(step.train) < _LEAST_ROWS or not step.dev or not step.test:
            raise UsageError(
                f"The experience {step.name!r} has {len(step.train)} rows to learn, "
                f"{len(step.dev)} for choices and {len(step.test)} for figures.",
                where=where,
                hint="Bring more rows, or fewer experiences (--steps N).",
            )
    return stream


def _to_json(record: LabelledRecord) -> dict[str, Any]:
    return {
        "id": record.record_id,
        "inputs": dict(record.inputs),
        "target": record.target,
        "split": record.split,
        "at": record.received_at.isoformat(),
        "group": record.group,
    }


def _from_json(value: Mapping[str, Any]) -> LabelledRecord:
    def frozen(item: Any) -> Any:
        return tuple(item) if isinstance(item, list) else item

    split: Split = value["split"]
    return LabelledRecord(
        record_id=value["id"],
        inputs={name: frozen(item) for name, item in value["inputs"].items()},
        target=frozen(value["target"]),
        split=split,
        source="benchmark",
        received_at=datetime.fromisoformat(value["at"]),
        group=value["group"],
    )
