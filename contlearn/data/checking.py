"""One row in, one checked record out: the task's fields, the label set, weight, group and time."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

from contlearn.config import Config
from contlearn.data.streams import printable
from contlearn.data.tools import TOOL_FIELDS, read_answer
from contlearn.interfaces import RowProblem, Task
from contlearn.tasks.others import (
    foreign_name,
    other_task,
    pair_fields,
    read_choices,
    refuse_pair,
    task_of_fields,
    type_name,
    whole_number,
)
from contlearn.tasks.rows import (
    control_characters,
    label_skeleton,
    near_label,
    normal_text,
)
from contlearn.types import Inputs, Target, label_name

__all__ = ["Checked", "RowChecker", "group_hash", "record_digest", "target_digest", "text_digest"]

# A slice has a short name.
_SLICE_CHARACTERS = 80
TEXT_BYTES = 12
TARGET_BYTES = 4
# How programs write that there is nothing: as a label it is mostly a mistake, but may be meant.
_NO_LABELS = frozenset({"nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nil", "undefined"})
# Beyond this many labels the near name is not looked for: each look costs time for every label.
_MAX_NEAR = 2_000


def text_digest(normal: str) -> bytes:
    """Hash a normalised input: the first 12 bytes of a record's id."""
    return blake2b(normal.encode("utf-8"), digest_size=TEXT_BYTES).digest()


def target_digest(target: Target) -> bytes:
    """Hash a target: the last 4 bytes of a record's id."""
    value = target if isinstance(target, str) else "\x1f".join(target)
    return blake2b(value.encode("utf-8"), digest_size=TARGET_BYTES).digest()


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
    """

    def __init__(self, task: Task, config: Config, known_labels: Iterable[str] = ()) -> None:
        data = config.data
        self._task, self._limits = task, data.limits
        self._fields = data.field_names()
        self._extra = _Extra(data.group, data.weight, data.annotator, data.timestamp, data.slices)
        self._aliases = dict(data.label_aliases)
        self._closed = bool(data.labels) and not data.allow_new_labels
        stated = task.space_from_labels(data.labels).names if data.labels else ()
        self._stated = frozenset(task.labels_of(stated)) if self._is_tags() else frozenset(stated)
        self._labels: dict[str, str] = {label: label for label in sorted(self._stated)}
        if not self._closed:
            self._labels.update((label, label) for label in known_labels)
        for label in list(self._labels):
            # A label that was taken in with blanks around it, before they were left out.
            self._labels.setdefault(label_name(label), label)
        self._looks = {label_skeleton(label): label for label in reversed(list(self._labels))}
        self._seconds = () if self._is_tags() else pair_fields(self._fields.text)
        self._met: set[str] = set()
        self.new_labels: list[str] = []

    def _is_tags(self) -> bool:
        return self._task.graph == "token-classification"

    def check(self, row: Mapping[str, object]) -> Checked:
        """Check one row.

        Raises:
            RowProblem: With the reason code of the first thing that is wrong.
        """
        if not TOOL_FIELDS.isdisjoint(row):
            row = read_answer(row, self._fields, is_tagging=self._is_tags())
        warnings: tuple[tuple[str, str], ...] = ()
        if not self._is_tags():
            label = row.get(self._fields.label)
            if type(label) is not str or label not in self._labels:
                row, warnings = self._named(row, label)
            for second in self._seconds:
                if row.get(second):
                    raise refuse_pair(self._fields.text, second, self._task.name)
        try:
            inputs, target = self._task.read_fields(row, self._fields)
        except RowProblem as problem:
            raise self._told(problem, row) from None
        if isinstance(target, str):
            known = self._labels.get(target)
            if known is None:
                known, more = self._unknown(target, "unknown-label")
                warnings += more
            target = key = known
        else:
            warnings = _trimmed_tags(row.get(self._fields.tags), target)
            for label in self._task.labels_of(target):
                name = self._labels.get(label)
                if name is None:
                    name, more = self._unknown(label, "bad-tag")
                    warnings += more
                if name != label:
                    target = tuple(tag[:2] + name if tag[2:] == label else tag for tag in target)
            self._met.update(self._task.labels_of(target))
            key = self._task.balance_key(target)
        if len(inputs) == 1:
            text = next(iter(inputs.values()))
            if isinstance(text, str):
                size, normal = len(text), normal_text(text)
                if not normal.isprintable() and (found := control_characters(text)):
                    warnings += (_control_warning(found),)
            else:
                if len(text) > self._limits.words:
                    raise self._too_long(f"{len(text):,} words", "words", self._limits.words)
                size, normal = sum(map(len, text)), "\x1f".join(map(normal_text, text))
        else:
            size, normal = self._several(inputs)
        if size > self._limits.text_characters:
            raise self._too_long(
                f"{size:,} characters", "text_characters", self._limits.text_characters
            )
        if not self._extra:
            return Checked(inputs, target, normal, key, None, 1.0, None, None, warnings)
        optional = self._optional(row)
        return Checked(inputs, target, normal, key, *optional, warnings, self._slices(row))

    def _named(
        self, row: Mapping[str, object], label: object
    ) -> tuple[Mapping[str, object], tuple[tuple[str, str], ...]]:
        """Look at a label that is not known as it stands.

        Blanks around it are left out. A number, or several labels in one, belong to another task,
        whatever format they come in; unless the configuration or a record names them.

        Raises:
            RowProblem: wrong-type.
        """
        field = self._fields.label
        if isinstance(label, str):
            name = label_name(label)
            if not name:
                return row, ()
            if not self._is_named(name):
                whole = whole_number(name)
                if whole is not None and self._is_named(whole):
                    name = whole
                else:
                    problem = foreign_name(name, self._labels, field, self._task.name)
                    if problem is not None:
                        raise problem
            if name == label:
                return row, ()
            edges = label.strip() != label or label[0] == "\ufeff" or label[-1] == "\ufeff"
            said = f"The blanks around the label {printable(label, 80)!r} are left out."
            return {**row, field: name}, (("blanks", said),) if edges else ()
        whole = whole_number(label)
        if whole is not None and self._is_named(whole):
            said = f"The number {whole} is kept as the label {whole!r}, which is named."
            return {**row, field: whole}, (("number", said),)
        if isinstance(label, Mapping) and (choices := read_choices(label)) and len(choices) == 1:
            return {**row, field: choices[0]}, ()
        return row, ()

    def _is_named(self, name: str) -> bool:
        return name in self._labels or name in self._aliases

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

    def _several(self, inputs: Inputs) -> tuple[int, str]:
        size, parts = 0, []
        for name in sorted(inputs):
            value = inputs[name]
            words = (value,) if isinstance(value, str) else value
            size += sum(map(len, words))
            parts.append(name + "\x1f" + "\x1f".join(map(normal_text, words)))
        return size, "\x1e".join(parts)

    def _too_long(self, what: str, key: str, limit: int) -> RowProblem:
        return RowProblem(
            "too-long",
            f"The text has {what}; the limit is {limit:,}.",
            f"Shorten it, or raise data.limits.{key} in contlearn.toml.",
        )

    def _unknown(self, label: str, reason: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Handle a label that is not known yet: by its alias, as new, or not at all."""
        alias = self._aliases.get(label)
        if alias is not None:
            if self._closed and alias not in self._labels:
                raise RowProblem(
                    reason,
                    f"The label {label!r} is an alias of {alias!r}, which is not in data.labels.",
                    "Correct data.label_aliases in contlearn.toml.",
                )
            if alias not in self._labels:
                self._admit(alias)
            return alias, (("alias", f"{label!r} is kept as {alias!r} (data.label_aliases)."),)
        shown = repr(printable(label, 80))
        if self._closed:
            near = near_label(label, list(self._labels)) if len(self._labels) <= _MAX_NEAR else None
            raise RowProblem(
                reason,
                f"The label {shown} is not in data.labels."
                + (f" The nearest is {near!r}." if near else ""),
                (f"Write {near!r} if that was meant; " if near else "")
                + "add the label to data.labels, or set data.allow_new_labels = true.",
            )
        same = self._looks.get(label_skeleton(label))
        if same is not None:
            raise RowProblem(
                reason,
                f"The label {shown} looks like {same!r}, but is not the same.",
                f"Write {same!r}, map it under [data.label_aliases], or, if both are meant, "
                "name both in data.labels and set data.allow_new_labels = true.",
            )
        hidden = [sign for sign in (label[0], label[-1]) if unicodedata.category(sign) == "Cf"]
        if hidden:
            raise RowProblem(
                reason,
                f"The label {shown} begins or ends with an invisible character "
                f"(U+{ord(hidden[0]):04X}).",
                "Take it away; a label that only looks like another would be a class of its own.",
            )
        if len(self._labels) >= self._limits.labels:
            raise RowProblem(
                reason,
                f"The label {shown} would be the {len(self._labels) + 1}th.",
                "Check the column of labels, or raise data.limits.labels in contlearn.toml.",
            )
        near = near_label(label, list(self._labels)) if len(self._labels) <= _MAX_NEAR else None
        self._admit(label)
        if label.strip().lower() in _NO_LABELS:
            said = f"The new label {shown} looks like a missing value that a program wrote as text."
            return label, (("null-label", said),)
        if near is None:
            return label, ()
        return label, (("near-label", f"The new label {shown} is close to {near!r}."),)

    def _admit(self, label: str) -> None:
        self._labels[label] = label
        self._looks.setdefault(label_skeleton(label), label)
        self.new_labels.append(label)

    def met_labels(self) -> list[str]:
        """Give the entity types of the rows that were checked."""
        return sorted(self._met)

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


def _trimmed_tags(given: object, target: Target) -> tuple[tuple[str, str], ...]:
    """Say that blanks around tags were left out."""
    if isinstance(given, list | tuple) and tuple(given) != target:
        for before, after in zip(given, target, strict=True):
            if unicodedata.normalize("NFC", before) != after:
                said = f"The blanks around the tag {printable(before, 80)!r} are left out."
                return (("blanks", said),)
    return ()


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
            f"The field {name!r} holds {printable(str(value), 40)!r}, which is no date and time.",
            "Write it like 2025-03-01T14:30:00Z; without a zone it is taken as UTC.",
        ) from None
