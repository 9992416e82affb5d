"""`scores.json` of a version: targets and answers on the held-out rows, by record id.

It holds label names, never texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from contlearn.papers.reading import read_paper
from contlearn.targets import target_from_json, target_to_json
from contlearn.types import Target

__all__ = [
    "SCORES",
    "Answers",
    "ScoredSet",
    "Scores",
    "pack_targets",
    "read_scores",
    "unpack_targets",
]

SCORES: Final = "scores.json"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer a row, and its confidence where the task has one a row."""

    targets: tuple[Target, ...]
    confidences: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the answers as JSON, each label name written once."""
        return {**pack_targets(self.targets), "confidences": list(self.confidences)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answers:
        """Read what `to_json` gave."""
        return cls(unpack_targets(value), tuple(value["confidences"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSet:
    """What is right on the rows of a held-out set, and what both versions answered.

    `champion` is None before the first promotion; `anchor` are the answers of the best proven
    version where that is another than the champion, row by row those of the first version that had
    learnt the experience if that came later. `kept` are the places of new rows that an earlier
    update measured and kept. `slices` gives each row's value of each slice.
    """

    experience: str
    index: int
    is_new: bool
    content_hash: str
    record_ids: tuple[str, ...]
    targets: tuple[Target, ...]
    challenger: Answers
    champion: Answers | None
    anchor: Answers | None = None
    kept: tuple[int, ...] = ()
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ScoredSet:
        """Read one item of `sets`.

        Raises:
            LookupError, TypeError, ValueError: When it is damaged.
        """
        champion, slices = value["champion"], value.get("slices", {})
        anchor = value.get("anchor")
        found = cls(
            experience=value["experience"],
            index=value["index"],
            is_new=value["is_new"],
            content_hash=value.get("content_hash", ""),
            record_ids=tuple(value["record_ids"]),
            targets=unpack_targets(value["targets"]),
            challenger=Answers.from_json(value["challenger"]),
            champion=None if champion is None else Answers.from_json(champion),
            anchor=None if anchor is None else Answers.from_json(anchor),
            kept=tuple(map(int, value.get("kept", ()))),
            slices={name: tuple(map(str, unpack_targets(v))) for name, v in slices.items()},
        )
        found._check_rows()
        return found

    def _check_rows(self) -> None:
        """Refuse a set whose columns are not all of the same rows."""
        answered = [one for one in (self.challenger, self.champion, self.anchor) if one is not None]
        columns: list[Sequence[Any]] = [self.targets, *self.slices.values()]
        columns += [one.targets for one in answered]
        columns += [one.confidences for one in answered if one.confidences]
        if any(len(column) != len(self.record_ids) for column in columns):
            raise ValueError(f"the set of {self.experience} has not one answer for each row")
        if any(not 0 <= place < len(self.record_ids) for place in self.kept):
            raise ValueError(f"the set of {self.experience} keeps rows that it does not have")

    def to_json(self) -> dict[str, Any]:
        """Give the item of `sets`."""
        return {
            "experience": self.experience,
            "index": self.index,
            "is_new": self.is_new,
            "content_hash": self.content_hash,
            "record_ids": list(self.record_ids),
            "targets": pack_targets(self.targets),
            "challenger": self.challenger.to_json(),
            "champion": None if self.champion is None else self.champion.to_json(),
            **({} if self.anchor is None else {"anchor": self.anchor.to_json()}),
            **({"kept": list(self.kept)} if self.kept else {}),
            "slices": {name: pack_targets(values) for name, values in self.slices.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The held-out sets of a version, and the labels that statistics are counted over."""

    labels: tuple[str, ...] = ()
    sets: tuple[ScoredSet, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scores:
        """Read what `to_json` gave.

        Raises:
            LookupError, TypeError, ValueError: When it is damaged or of another format.
        """
        if value.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"format version {value.get('format_version')}, not {FORMAT_VERSION}")
        return cls(
            labels=tuple(value["labels"]), sets=tuple(map(ScoredSet.from_json, value["sets"]))
        )

    def to_json(self) -> dict[str, Any]:
        """Give what the file holds."""
        return {
            "format_version": FORMAT_VERSION,
            "labels": list(self.labels),
            "sets": [one.to_json() for one in self.sets],
        }


def read_scores(folder: Path) -> Scores:
    """Read the scores in a version's folder.

    Raises:
        StorageError: When they are missing, damaged or of another format.
    """
    return read_paper(folder / SCORES, Scores.from_json)


def pack_targets(targets: Sequence[Any]) -> dict[str, Any]:
    """Write targets so that each name stands once: classes and tags as numbers into a list.

    Example:
        >>> pack_targets(["no", "yes", "no"])
        {'names': ['no', 'yes'], 'rows': [0, 1, 0]}
        >>> pack_targets([3, 4.5])
        {'values': [3, 4.5]}
    """
    if not all(_is_named(target) for target in targets):
        return {"values": [target_to_json(target) for target in targets]}
    index: dict[str, int] = {}

    def number(name: str) -> int:
        return index.setdefault(name, len(index))

    rows = [
        number(target) if isinstance(target, str) else [number(tag) for tag in target]
        for target in targets
    ]
    return {"names": list(index), "rows": rows}


def _is_named(target: Any) -> bool:
    """Say whether a target is a name, or several."""
    return isinstance(target, str) or (
        isinstance(target, tuple) and all(isinstance(item, str) for item in target)
    )


def unpack_targets(value: Mapping[str, Any]) -> tuple[Target, ...]:
    """Read what `pack_targets` wrote."""
    if "values" in value:
        return tuple(map(target_from_json, value["values"]))
    names = value["names"]
    return tuple(
        names[row] if isinstance(row, int) else tuple(names[i] for i in row)
        for row in value["rows"]
    )
