"""One row in, one checked record out: the task's fields, the label set, weight, group and time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

from contlearn.config import Config
from contlearn.data.formats.tools import TOOL_FIELDS, read_answer
from contlearn.data.intake.label_book import LabelBook, NearName
from contlearn.interfaces import RowProblem, Task
from contlearn.tasks.others import other_task, task_of_fields, type_name
from contlearn.tasks.rows import control_characters
from contlearn.types import Inputs, Target
from contlearn.wording import printable, quoted

__all__ = ["Checked", "RowChecker", "group_hash", "record_digest", "target_digest", "text_digest"]

# A slice has a short name.
_SLICE_CHARACTERS = 80
TEXT_BYTES = 12
TARGET_BYTES = 4


def text_digest(normal: str) -> bytes:
    """Hash a normalised input: the first 12 bytes of a record's id."""
    return blake2b(normal.encode("utf-8"), digest_size=TEXT_BYTES).digest()


def target_digest(target: Target) -> bytes:
    """Hash a target: the last 4 bytes of a record's id."""
    return blake2b(_written(target).encode("utf-8"), digest_size=TARGET_BYTES).digest()


def _written(target: Target) -> str:
    """Write a target as text: a class as it is, tags with separators, anything else as JSON."""
    if isinstance(target, str):
        return target
    if isinstance(target, tuple) and all(isinstance(item, str) for item in target):
        return "\x1f".join(target)
    return json.dumps(target, sort_keys=True, ensure_ascii=False)


def record_digest(normal: str, target: Target) -> str:
    """Give the record id of a normalised input and its target.

    Example:
        >>> first, second = record_digest("hi", "greeting"), record_digest("hi", "parting")
        >>> len(first), first[:24] == second[:24], first == second
        (32, True, False)
    """
    return (text_digest(normal) + target_digest(target)).hex()


def group_hash(group: str) -> str:
    """Hash a group: a customer, a document, whatever must not stand on both sides."""
    return blake2b(group.encode("utf-8"), digest_size=16).hexdigest()


class Checked(NamedTuple):
    """A row that can be used. `normal` is the form that duplicates and the split go by.

    `slices` holds the values of the fields named in `data.slices`, as a JSON object.
    """

    inputs: Inputs
    target: Target
    normal: str
    key: str
    group: str | None
    weight: float
    annotator: str | None
    timestamp: datetime | None
    warnings: tuple[tuple[str, str], ...]
    slices: str | None = None


@dataclass(frozen=True, slots=True)
class _Extra:
    """The names of the optional fields; an empty name is a field that is not used."""

    group: str
    weight: str
    annotator: str
    timestamp: str
    slices: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.group or self.weight or self.annotator or self.timestamp or self.slices)


class RowChecker:
    """Checks rows of one file against the task and the configuration.

    Args:
        task: What the rows are for.
        config: The configuration.
        known_labels: Labels that records of this workspace have already.
        refused: New labels that an earlier reading of the rows found to be near another.
        keeps_rows: Refused rows stay in the quarantine.
    """

    def __init__(
        self,
        task: Task,
        config: Config,
        known_labels: Iterable[str] = (),
        *,
        refused: Iterable[NearName] = (),
        keeps_rows: bool = False,
    ) -> None:
        data = config.data
        self._task, self._limits = task, data.limits
        self._fields = data.field_names()
        self._extra = _Extra(data.group, data.weight, data.annotator, data.timestamp, data.slices)
        self.book = LabelBook(task, data, known_labels, refused=refused, keeps_rows=keeps_rows)
        self._names = self.book.names

    @property
    def new_labels(self) -> list[str]:
        """The labels that no record had before, in the order they came."""
        return self.book.new

    def check(self, row: Mapping[str, object]) -> Checked:
        """Check one row.

        Raises:
            RowProblem: With the reason code of the first thing that is wrong.
        """
        if not TOOL_FIELDS.isdisjoint(row):
            row = read_answer(row, self._fields, self._task)
        row, warnings = self._task.tidy(row, self._fields, self.book)
        try:
            inputs, target = self._task.read_fields(row, self._fields)
        except RowProblem as problem:
            raise self._told(problem, row) from None
        labels = self._task.labels_of(target)
        others: dict[str, str] = {}
        for label in labels:
            name = self._names.get(label)
            if name is None:
                name, more = self.book.resolve(label)
                warnings += more
            if name != label:
                others[label] = name
        if others:
            target = self._task.renamed(target, others)
            labels = self._task.labels_of(target)
        key = self._task.balance_key(target)
        size, normal = 0, self._task.normal_of(inputs)
        for value in inputs.values():
            if isinstance(value, str):
                size += len(value)
                if not normal.isprintable() and (found := control_characters(value)):
                    warnings += (_control_warning(found),)
            else:
                if len(value) > self._limits.words:
                    raise self._too_long(f"{len(value):,} words", "words", self._limits.words)
                size += sum(map(len, value))
        if size > self._limits.text_characters:
            raise self._too_long(
                f"{size:,} characters", "text_characters", self._limits.text_characters
            )
        if not self._extra:
            self.book.count(labels)
            return Checked(inputs, target, normal, key, None, 1.0, None, None, warnings)
        optional = self._optional(row)
        self.book.count(labels)
        return Checked(inputs, target, normal, key, *optional, warnings, self._slices(row))

    def _told(self, problem: RowProblem, row: Mapping[str, object]) -> RowProblem:
        """Add to a refusal for a missing field which task has the fields of the row."""
        if problem.reason != "missing-field":
            return problem
        needed = self._task.needed_fields(self._fields)
        there = [name for name, value in row.items() if value is not None]
        other = task_of_fields(there, needed)
        if other is None or other == self._task.name:
            return problem
        return other_task(problem.reason, problem.message, other, self._task.name, problem.hint)

    def _too_long(self, what: str, key: str, limit: int) -> RowProblem:
        return RowProblem(
            "too-long",
            f"The text has {what}; the limit is {limit:,}.",
            f"Shorten it, or raise data.limits.{key} in contlearn.toml.",
        )

    def _optional(
        self, row: Mapping[str, object]
    ) -> tuple[str | None, float, str | None, datetime | None]:
        extra = self._extra
        group = _short_text(row.get(extra.group), extra.group) if extra.group else None
        annotator = (
            _short_text(row.get(extra.annotator), extra.annotator) if extra.annotator else None
        )
        weight = _weight(row.get(extra.weight), extra.weight) if extra.weight else 1.0
        timestamp = _time(row.get(extra.timestamp), extra.timestamp) if extra.timestamp else None
        return group, weight, annotator, timestamp

    def _slices(self, row: Mapping[str, object]) -> str | None:
        """Give the row's values of `data.slices`; what is neither text nor number is no value."""
        found = {}
        for name in self._extra.slices:
            value = row.get(name)
            if isinstance(value, str | int | float) and value != "":
                text = str(value).lower() if isinstance(value, bool) else str(value)
                found[name] = printable(text, _SLICE_CHARACTERS)
        return json.dumps(found, ensure_ascii=False) if found else None


def _control_warning(found: str) -> tuple[str, str]:
    codes = ", ".join(f"U+{ord(c):04X}" for c in dict.fromkeys(found))
    return "control-char", f"The text holds control characters ({codes}); it is kept as it is."


def _short_text(value: object, name: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowProblem(
            "wrong-type",
            f"The field {name!r} is a {type_name(value)}, not text.",
            "Write it as text or as a whole number.",
        )
    return str(value)[:1000]


def _weight(value: object, name: str) -> float:
    if value is None or value == "":
        return 1.0
    try:
        number = float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool):
        raise RowProblem(
            "wrong-type",
            f"The weight in {name!r} is a {type_name(value)}, not a number.",
            "Write a number of 0 or more.",
        )
    if not math.isfinite(number):
        raise RowProblem(
            "non-finite", f"The weight in {name!r} is {number}.", "Write a finite number."
        )
    if number < 0:
        raise RowProblem(
            "wrong-type",
            f"The weight in {name!r} is negative ({number}).",
            "Write a number of 0 or more.",
        )
    return number


def _time(value: object, name: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            raise ValueError
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise RowProblem(
            "bad-time",
            f"The field {name!r} holds {quoted(str(value), 40)}, which is no date and time.",
            "Write it like 2025-03-01T14:30:00Z; without a zone it is taken as UTC.",
        ) from None
