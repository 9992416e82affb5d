"""What a name of a label means: the one place where names from outside are resolved or refused.

Files, the inbox, sources, corrected rows and feedback all ask here, so that a name is either the
same label everywhere or refused everywhere:

    an alias           is kept as what it stands for (`data.label_aliases`)
    a closed set       takes only what is in it (`data.labels`)
    a look-alike       of a known name (case, blanks, signs that look the same) is refused
    a near name        of a label with many more rows is refused too: see `LabelBook.settle`
    anything else      is a new label
"""

from __future__ import annotations

import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from contlearn.config import DataConfig
from contlearn.interfaces import RowProblem, Task
from contlearn.tasks.near_names import NearNames, is_near, written_alike
from contlearn.tasks.rows import label_skeleton, near_label
from contlearn.types import label_name
from contlearn.wording import quoted

__all__ = ["LEAST_ROWS", "TIMES_ROWS", "LabelBook", "NearName", "RowsOf"]

# A near name is refused when the other has this many rows at least, and so many times its own.
LEAST_ROWS: Final = 5
TIMES_ROWS: Final = 4
# Rows of a known label are counted so far at least, to be told.
_COUNTED: Final = 1_000
# How programs write that there is nothing: as a label it is mostly a mistake, but may be meant.
_NO_LABELS = frozenset({"nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nil", "undefined"})
# Beyond this many labels the near name is not looked for: each look costs time for every label.
_MAX_NEAR = 2_000

# So many new names are compared with each; for more an index is made.
_FEW: Final = 16

Warnings: TypeAlias = tuple[tuple[str, str], ...]
# How many records a label has, counted up to a limit.
RowsOf: TypeAlias = Callable[[str, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearName:
    """A new name of a label, and the one that it is close to.

    `near_rows` is how many rows the other has, `rows` how many of these rows have the new name;
    `many` says that the other has more than were counted.
    """

    label: str
    near: str
    rows: int
    near_rows: int
    is_refused: bool
    many: bool = False

    @property
    def message(self) -> str:
        """Say both names with their rows."""
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        others = f"{self.near_rows:,} rows" + (" or more" if self.many else "")
        return (
            f"The new label {_shown(self.label)} ({rows}) is close to "
            f"{_shown(self.near)} ({others})."
        )

    @property
    def commands(self) -> tuple[str, str] | None:
        """Give the commands that let its rows in: as the other label, and as one of its own."""
        if not (self.label.isprintable() and self.near.isprintable()):
            return None
        accept = "contlearn data quarantine --accept "
        return (
            accept + shlex.quote(f"{self.label}={self.near}"),
            accept + shlex.quote(self.label),
        )

    def to_json(self) -> dict[str, object]:
        """Give the entry of `near_labels`."""
        as_near, as_new = self.commands or (None, None)
        return {
            "label": self.label,
            "near": self.near,
            "rows": self.rows,
            "near_rows": self.near_rows,
            "refused": self.is_refused,
            "accept_as_near": as_near if self.is_refused else None,
            "accept_as_new": as_new if self.is_refused else None,
        }


class LabelBook:
    """The labels of one workspace while one file, or one request, is read.

    Args:
        task: Whose labels they are.
        data: The configuration.
        known: Labels that records of this workspace have already.
        refused: New names that an earlier reading of the same rows found to be near another.
        keeps_rows: Refused rows stay in the quarantine, from where a command lets them in.
    """

    def __init__(
        self,
        task: Task,
        data: DataConfig,
        known: Iterable[str] = (),
        *,
        refused: Iterable[NearName] = (),
        keeps_rows: bool = False,
    ) -> None:
        self._aliases = dict(data.label_aliases)
        self._limit = data.limits.labels
        self._refuses_near = data.near_labels == "quarantine"
        self._look = written_alike if self._refuses_near else label_skeleton
        self._keeps_rows = keeps_rows
        self._separator = task.key_separator
        self.reason = task.label_reason
        self.is_closed = bool(data.labels) and not data.allow_new_labels
        stated = task.space_from_labels(data.labels).names if data.labels else ()
        self._stated = frozenset(task.label_names(stated))
        self.names: dict[str, str] = {
            label: label for label in sorted(self._stated) if not self._is_joined(label)
        }
        if not self.is_closed:
            self.names.update((label, label) for label in known)
        for alias in self._aliases.keys() - self._stated:
            self.names.pop(alias, None)  # a name that was a label once stands for another now
        for label in list(self.names):
            # A label that was taken in with blanks around it, before they were left out.
            self.names.setdefault(label_name(label), label)
        self._known = frozenset(self.names)
        self._looks = {self._look(label): label for label in reversed(list(self.names))}
        self._refused = {item.label: item for item in refused}
        self._rows: Counter[str] = Counter()
        self.new: list[str] = []

    def __contains__(self, name: object) -> bool:
        """Say whether a record, the configuration or an alias has a name already."""
        return name in self.names or name in self._aliases

    def count(self, labels: Iterable[str]) -> None:
        """Count a row that was taken."""
        rows = self._rows
        for label in labels:
            rows[label] = rows.get(label, 0) + 1

    def resolve(self, label: str) -> tuple[str, Warnings]:
        """Give the label that a name stands for, and what should be said about it.

        Raises:
            RowProblem: unknown-label, or bad-tag for an entity type.
        """
        if label in self.names:
            return self.names[label], ()
        alias = self._aliases.get(label)
        if alias is not None:
            return self._by_alias(label, alias)
        self._require_one(label)
        if self.is_closed:
            raise self._not_in_set(label)
        near = self._refused.get(label)
        if near is not None:
            self._rows[label] += 1
            raise RowProblem(self.reason, near.message, self.hint(label, near.near))
        shown = _shown(label)
        same = self._looks.get(self._look(label))
        if same is not None:
            self._rows[label] += 1  # `settle` may find that this is the one that was meant
            raise RowProblem(
                self.reason,
                f"The label {shown} looks like {_shown(same)}, but is not the same.",
                self.hint(label, same),
            )
        hidden = [sign for sign in (label[0], label[-1]) if unicodedata.category(sign) == "Cf"]
        if hidden:
            raise RowProblem(
                self.reason,
                f"The label {shown} begins or ends with an invisible character "
                f"(U+{ord(hidden[0]):04X}).",
                "Take it away; a label that only looks like another would be a class of its own.",
            )
        if len(self.names) >= self._limit:
            raise RowProblem(
                self.reason,
                f"The label {shown} would be the {len(self.names) + 1}th.",
                "Check the column of labels, or raise data.limits.labels in contlearn.toml.",
            )
        close = near_label(label, list(self.names)) if len(self.names) <= _MAX_NEAR else None
        self._admit(label)
        if label.strip().lower() in _NO_LABELS:
            said = f"The new label {shown} looks like a missing value that a program wrote as text."
            return label, (("null-label", said),)
        if close is None:
            return label, ()
        return label, (("near-label", f"The new label {shown} is close to {_shown(close)}."),)

    def _by_alias(self, label: str, alias: str) -> tuple[str, Warnings]:
        if alias not in self.names:
            self._require_one(alias)
        if self.is_closed and alias not in self.names:
            raise RowProblem(
                self.reason,
                f"The label {label!r} is an alias of {alias!r}, which is not in data.labels.",
                "Correct data.label_aliases in contlearn.toml.",
            )
        if alias not in self.names:
            self._admit(alias)
        return alias, (("alias", f"{label!r} is kept as {alias!r} (data.label_aliases)."),)

    def _is_joined(self, label: str) -> bool:
        return self._separator is not None and self._separator in label

    def _require_one(self, label: str) -> None:
        """Refuse a name that would be taken apart where the key of a record is read."""
        if self._is_joined(label):
            raise RowProblem(
                self.reason,
                f"The label {_shown(label)} holds {self._separator!r}, which joins the labels of a "
                "record.",
                f"Call it otherwise, or map it under [data.label_aliases] to a name without "
                f"{self._separator!r}.",
            )

    def _not_in_set(self, label: str) -> RowProblem:
        near = near_label(label, list(self.names)) if len(self.names) <= _MAX_NEAR else None
        return RowProblem(
            self.reason,
            f"The label {_shown(label)} is not in data.labels."
            + (f" The nearest is {near!r}." if near else ""),
            (f"Write {near!r} if that was meant; " if near else "")
            + "add the label to data.labels, or set data.allow_new_labels = true.",
        )

    def hint(self, label: str, near: str) -> str:
        """Say how a name that is near another gets in."""
        commands = NearName(label=label, near=near, rows=0, near_rows=0, is_refused=True).commands
        if self._keeps_rows and commands is not None:
            return (
                f"If {near!r} is meant: `{commands[0]}`, and for files to come name it under "
                f"[data.label_aliases]. If both are meant: `{commands[1]}`."
            )
        return (
            f"Write {near!r}, map it under [data.label_aliases], or, if both are meant, "
            "name both in data.labels and set data.allow_new_labels = true."
        )

    def _admit(self, label: str) -> None:
        self.names[label] = label
        self._looks.setdefault(self._look(label), label)
        self.new.append(label)

    def settle(self, rows_of: RowsOf) -> list[NearName]:
        """Say which new names are close to others, and which are refused, once rows are counted.

        Of names that look alike the one with more rows stays, the earlier one where they have as
        many; against a known one none does. A name one letter off (`tasks.near_names`) is refused
        where the other has at least five rows, and four times its own: a slip is rare, a class is
        not. Names in `data.labels` are meant: against a near one they have any number of rows.

        Args:
            rows_of: Counts the records of a label that the workspace has, up to a limit.
        Returns:
            With `is_refused` what must not be taken. Where such a name was admitted on the way,
            the rows must be read again, with these as `refused`.
        """
        found = self._alike(rows_of)
        for label, near in self._refused.items():
            found[label] = replace(near, rows=self._rows[label])
        places: NearNames | None = None
        meant = set(self._aliases.values())
        for label in self.new if self._refuses_near else ():
            if label in found or label in meant or label not in self._rows:
                continue
            if places is None and len(self.new) > _FEW:
                places = NearNames(self.names)
            close = places.find(label) if places else [n for n in self.names if is_near(label, n)]
            others = [other for other in close if other not in found]
            pairs = [self._weighed(label, other, rows_of) for other in others]
            best = max(pairs, key=lambda pair: (pair.is_refused, pair.near_rows), default=None)
            # Of two new ones the rarer tells. Beside a known one the new one does, also where it is
            # the known one that was written wrong.
            if best is not None and (
                best.is_refused or best.near in self._known or best.near_rows >= best.rows
            ):
                found[label] = best
        return list(found.values())

    def _weighed(self, label: str, other: str, rows_of: RowsOf) -> NearName:
        rows, theirs = self._rows[label], self._rows[other]
        needed = max(LEAST_ROWS, TIMES_ROWS * rows)
        limit = max(_COUNTED, needed)
        if other in self._known:
            theirs += rows_of(other, limit)
        return NearName(
            label=label,
            near=other,
            rows=rows,
            near_rows=theirs,
            is_refused=theirs >= needed or other in self._stated,
            many=theirs >= limit,
        )

    def _alike(self, rows_of: RowsOf) -> dict[str, NearName]:
        """Find the names that look alike, and of new ones those that another outnumbers."""
        groups: dict[str, list[str]] = {}
        for label in self._rows:
            if label not in self.names and label not in self._refused:
                groups.setdefault(self._looks[self._look(label)], []).append(label)
        found: dict[str, NearName] = {}
        for first, others in groups.items():
            names = [first, *others]
            best = first if first in self._known else max(names, key=lambda name: self._rows[name])
            for label in names:
                if label != best:
                    found[label] = replace(self._weighed(label, best, rows_of), is_refused=True)
        return found


def _shown(label: str) -> str:
    return quoted(label, 80)
