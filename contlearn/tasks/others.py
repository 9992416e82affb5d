"""Rows that belong to another task: told in the same words, whatever format they come in."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import Final

from contlearn.interfaces import RowProblem

__all__ = [
    "foreign_label",
    "foreign_name",
    "other_task",
    "pair_fields",
    "read_choices",
    "refuse_pair",
    "task_of_fields",
    "type_name",
    "whole_number",
]

_NUMBER: Final = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
_WHOLE: Final = re.compile(r"([+-]?\d{1,18})(?:[.,]0+)?")
# What joins several labels in one cell; a comma may also be part of a name.
_BAR: Final = "|"
_JOINTS: Final = re.compile(r"\s*[,;]\s*")
_SHOWN: Final = 60
# The two fields of a pair, as public data sets and tools name them.
_PAIRS: Final = (
    ("text", "text_b"),
    ("text", "text2"),
    ("text", "text_2"),
    ("text", "text_pair"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("sentence", "sentence2"),
    ("sentence", "sentence_b"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("passage", "question"),
)
# Fields by which rows of other tasks are known.
_SIGNS: Final = (
    (("context", "question"), "question-answering"),
    (("turns",), "dialogue"),
    (("head", "tail"), "relation-extraction"),
    (("source", "target"), "translation or summarisation"),
    (("labels",), "multi-label-classification"),
    *((pair, "pair-classification") for pair in _PAIRS),
    (("tokens", "tags"), "token-classification"),
    (("text", "label"), "text-classification"),
)


def type_name(value: object) -> str:
    """Name a JSON type as people know it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bytes):
        return "run of bytes"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, Sequence):
        return "list"
    return type(value).__name__


def other_task(reason: str, what: str, other: str, task: str, hint: str) -> RowProblem:
    """Make the refusal of a row that belongs to another task than the workspace's."""
    return RowProblem(
        reason,
        f"{what} Such rows belong to the task {other}; this workspace's task is {task}.",
        hint,
    )


def task_of_fields(names: Collection[str], needed: Iterable[str]) -> str | None:
    """Name the task whose fields a row has, where it lacks one that is needed.

    Example:
        >>> task_of_fields({"premise", "hypothesis", "label"}, ["text", "label"])
        'pair-classification'
    """
    found, wanted = set(names), set(needed)
    if wanted <= found:
        return None
    return next((task for signs, task in _SIGNS if found.issuperset(signs)), None)


def pair_fields(text: str) -> tuple[str, ...]:
    """Name the fields that hold a second text beside a field of this name.

    Example:
        >>> pair_fields("premise")
        ('hypothesis',)
    """
    return tuple(second for first, second in _PAIRS if first == text)


def refuse_pair(first: str, second: str, task: str) -> RowProblem:
    """Make the refusal of a row with two texts."""
    return other_task(
        "other-task",
        f"The row has a second text in {second!r}, beside {first!r}.",
        "pair-classification",
        task,
        f"If the label is about {first!r} alone, leave {second!r} out; a pair cut in half teaches "
        "what is not so.",
    )


def foreign_label(value: object, name: str, task: str) -> RowProblem | None:
    """Give the refusal of a number or a list as a label; None for anything else."""
    if isinstance(value, list | tuple):
        return _several(f"a list of {len(value)}", name, task)
    if isinstance(value, Mapping) and (choices := read_choices(value)) is not None:
        return _several(f"a list of {len(choices)}", name, task)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(str(value), name, task, is_whole=whole_number(value) is not None)
    return None


def foreign_name(label: str, known: Container[str], name: str, task: str) -> RowProblem | None:
    """Give the refusal of a new label that is, as text, a number or several labels.

    Formats without types (CSV, sheets) hold them so. A label that is known, or named in the
    configuration, is never asked about.

    Args:
        label: The new label.
        known: The labels that are known.
        name: The field.
        task: The workspace's task.
    """
    if label[0] in "[{" and (choices := read_choices(label)) is not None:
        return _several(f"a list of {len(choices)}", name, task)
    if _NUMBER.fullmatch(label):
        return _number(label, name, task, is_whole=whole_number(label) is not None)
    parts = [part.strip() for part in label.split(_BAR)]
    if len(parts) > 1 and all(parts):
        return _several(f"{label[:_SHOWN]!r}, several names with bars between", name, task)
    parts = _JOINTS.split(label)
    if len(parts) > 1 and all(part in known for part in parts):
        return _several(f"{label[:_SHOWN]!r}, several known labels", name, task)
    return None


def read_choices(value: object) -> list[object] | None:
    """Read several labels out of one value: a list, or what Label Studio writes, also as text.

    Example:
        >>> read_choices('{"choices": ["late", "broken"]}')
        ['late', 'broken']
        >>> read_choices("[draft] reply") is None
        True
    """
    if isinstance(value, str):
        if value[:1] not in ("[", "{"):
            return None
        text = value
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            # As Python shows a list: ['late', 'broken'].
            quoted = text.startswith("['") and text.endswith("']")
            return list(text[2:-2].split("', '")) if quoted else None
    if isinstance(value, Mapping):
        value = value.get("choices")
    return list(value) if isinstance(value, list | tuple) else None


def whole_number(value: object) -> str | None:
    """Give the name that a whole number has as a label, or None.

    Example:
        >>> whole_number(3), whole_number("3.0"), whole_number(4.7), whole_number(True)
        ('3', '3', None, None)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else str(int(found[1]))


def _number(shown: str, name: str, task: str, *, is_whole: bool) -> RowProblem:
    if not is_whole:
        return other_task(
            "wrong-type",
            f"The label in {name!r} is the number {shown[:_SHOWN]}, not the name of a class.",
            "regression",
            task,
            "If it is a name all the same, list it in data.labels.",
        )
    return other_task(
        "wrong-type",
        f"The label in {name!r} is the number {shown[:_SHOWN]}, not the name of a class.",
        "regression (or ordinal-regression, for grades)",
        task,
        f"If the numbers stand for classes, name them: {shown[:_SHOWN]!r} under "
        "[data.label_aliases] in contlearn.toml, or the numbers themselves in data.labels.",
    )


def _several(what: str, name: str, task: str) -> RowProblem:
    return other_task(
        "wrong-type",
        f"The label in {name!r} is {what}.",
        "multi-label-classification",
        task,
        "Give one label a row, as text; if this is one name, list it in data.labels, or map it "
        "under [data.label_aliases].",
    )
