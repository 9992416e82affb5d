"""What becomes of each row of a file: accepted, duplicate or conflict, and on which side.

Everything is decided from digests: 16 bytes a row, sorted once, whatever the texts' length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from contlearn.data.intake.known import KnownRecord
from contlearn.data.intake.split import held_out_by_hash, union_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["ACCEPT", "CONFLICT", "DIGEST", "DUPLICATE", "Resolution", "assign_sides", "resolve"]

ACCEPT: Final = 0
DUPLICATE: Final = 1
CONFLICT: Final = 2
# A row's record id: twelve bytes for the text, four for the target. Big-endian, so that the order
# of the numbers is the order of the ids.
DIGEST: Final = np.dtype([("high", ">u8"), ("low", ">u4"), ("target", ">u4")])
Policy = Literal["quarantine", "newest", "all"]


@dataclass
class Resolution:
    """The decision about each row. `other` names the row that one is in conflict with, or -1."""

    action: NDArray[np.uint8]
    other: NDArray[np.int64]
    messages: dict[int, str] = field(default_factory=dict)
    known_side: dict[int, bool] = field(default_factory=dict)  # accepted rows of a known text
    supersedes: dict[int, list[str]] = field(default_factory=dict)  # row: the records it corrects
    same_text: list[tuple[int, int]] = field(default_factory=list)  # accepted rows of one text
    forgotten: list[int] = field(default_factory=list)  # rows whose text was forgotten
    outdated: list[int] = field(default_factory=list)  # rows with a label that was superseded

    @property
    def superseded(self) -> list[str]:
        """Give the records whose place is taken; a row that is refused after all takes none."""
        return [
            record_id
            for row, record_ids in self.supersedes.items()
            if self.action[row] == ACCEPT
            for record_id in record_ids
        ]

    def accepted(self) -> Rows:
        """Give the rows that are taken in."""
        return np.flatnonzero(self.action == ACCEPT).astype(np.int64)

    def refuse(self, row: int, message: str) -> None:
        """Turn a row into a conflict."""
        self.action[row] = CONFLICT
        self.messages[row] = message


@dataclass(frozen=True)
class _Sorted:
    """Rows in the order of their ids, cut into texts and records."""

    order: Rows
    text_starts: Rows  # where each text begins in `order`; one more at the end
    record_starts: Rows
    text_of_record: Rows

    @staticmethod
    def of(digests: NDArray[np.void]) -> _Sorted:
        """Sort by the first eight bytes, and look at the others only where those are equal."""
        high = digests["high"].astype(np.uint64)
        order = np.argsort(high, kind="stable")
        high = high[order]
        new_text = np.ones(len(order), dtype=np.bool_)
        np.not_equal(high[1:], high[:-1], out=new_text[1:])
        new_record = new_text.copy()
        tied = ~new_text
        tied[:-1] |= tied[1:]
        places = np.flatnonzero(tied)
        if len(places):
            head, rows = high[places], order[places]
            rest = (digests["low"][rows].astype(np.uint64) << np.uint64(32)) | digests["target"][
                rows
            ]
            # Within a place's equals, and stable: the earliest row of each record stays first.
            inner = np.lexsort((rest, head))
            order[places], rest = rows[inner], rest[inner]
            follows = places[1:] == places[:-1] + 1
            same_head = follows & (head[1:] == head[:-1])
            new_text[places[1:]] = ~(
                same_head & (rest[1:] >> np.uint64(32) == rest[:-1] >> np.uint64(32))
            )
            new_record[places[1:]] = ~(same_head & (rest[1:] == rest[:-1]))
        del high
        record_starts = np.flatnonzero(new_record)
        end = np.array([len(order)], dtype=np.int64)
        return _Sorted(
            order,
            np.concatenate([np.flatnonzero(new_text), end]),
            np.concatenate([record_starts, end]),
            (np.cumsum(new_text) - 1)[record_starts],
        )


def resolve(
    digests: NDArray[np.void],
    known: Sequence[KnownRecord],
    *,
    policy: Policy,
    held_out: bool,
    bring_back: bool = False,
) -> Resolution:
    """Find duplicates and conflicts, in the file and against the catalog.

    Args:
        digests: One `DIGEST` a row, in the order of the file.
        known: The catalog's records of these texts.
        policy: What to do with one text under two targets.
        held_out: The file is to be measured on: no text of it may be known for training.
        bring_back: Texts that were forgotten come in again: a person has said so.
    Shape: digests (n,).
    """
    size = len(digests)
    result = Resolution(np.full(size, ACCEPT, dtype=np.uint8), np.full(size, -1, dtype=np.int64))
    if not size:
        return result
    rows = _Sorted.of(digests)
    # A stable sort: the first row of each record is the earliest in the file.
    is_first = np.zeros(size, dtype=np.bool_)
    is_first[rows.order[rows.record_starts[:-1]]] = True
    result.action[~is_first] = DUPLICATE
    targets = np.bincount(rows.text_of_record, minlength=len(rows.text_starts) - 1)
    for text in np.flatnonzero(targets > 1).tolist():
        _resolve_text(rows, text, policy, result)
    if known:
        by_text: dict[str, list[KnownRecord]] = defaultdict(list)
        for record in known:
            by_text[record.text].append(record)
        for prefix, text in zip(by_text, _places_of(digests, rows, by_text), strict=True):
            groups = (
                [rows.order[rows.text_starts[text] : rows.text_starts[text + 1]]]
                if targets[text] == 1
                else _records_of(rows, text)
            )
            known_text = _KnownText.of(by_text[prefix], held_out=held_out, bring_back=bring_back)
            known_text.decide(digests, groups, policy, result)
    return result


def _records_of(rows: _Sorted, text: int) -> list[Rows]:
    """Give the rows of each record of a text."""
    first = int(np.searchsorted(rows.text_of_record, text))
    last = int(np.searchsorted(rows.text_of_record, text, side="right"))
    return [
        rows.order[rows.record_starts[i] : rows.record_starts[i + 1]] for i in range(first, last)
    ]


def _resolve_text(rows: _Sorted, text: int, policy: Policy, result: Resolution) -> None:
    """Decide on a text that stands in the file under several targets."""
    groups = _records_of(rows, text)
    firsts = [int(group[0]) for group in groups]
    if policy == "all":
        result.same_text.extend((firsts[0], other) for other in firsts[1:])
        return
    newest = max(range(len(groups)), key=lambda i: int(groups[i][-1]))
    for i, group in enumerate(groups):
        if policy == "newest" and i == newest:
            continue
        result.action[group] = CONFLICT
        result.other[group] = firsts[newest] if i != newest else firsts[newest - 1]


def _places_of(digests: NDArray[np.void], rows: _Sorted, prefixes: Iterable[str]) -> list[int]:
    """Give the number of each text; `prefixes` are those of ids."""
    heads = digests[rows.order[rows.text_starts[:-1]]]
    high, low = heads["high"].astype(np.uint64), heads["low"].astype(np.uint64)
    wanted = list(prefixes)
    first = np.array([int(prefix[:16], 16) for prefix in wanted], dtype=np.uint64)
    places: list[int] = np.searchsorted(high, first).tolist()
    for number, prefix in enumerate(wanted):
        # Two texts with the same first eight bytes stand beside each other.
        while int(low[places[number]]) != int(prefix[16:], 16):
            places[number] += 1
    return places


@dataclass(frozen=True)
class _KnownText:
    """What the catalog knows of one text.

    Args:
        live: The records whose labels stand, the held ones too.
        blocked: Targets that were forgotten and stay out.
        outdated: Targets that were superseded.
        was_learnt_from: The file is to be measured on, and the text was for training.
    """

    live: Sequence[KnownRecord]
    blocked: frozenset[int]
    outdated: frozenset[int]
    held_out: bool
    was_learnt_from: bool

    @staticmethod
    def of(records: Sequence[KnownRecord], *, held_out: bool, bring_back: bool) -> _KnownText:
        forgotten = frozenset(record.target for record in records if record.forgotten)
        return _KnownText(
            live=[record for record in records if not record.forgotten and not record.superseded],
            blocked=frozenset() if bring_back else forgotten,
            outdated=frozenset(record.target for record in records if record.superseded),
            held_out=records[0].held_out,
            was_learnt_from=held_out and not records[0].held_out,
        )

    def decide(
        self, digests: NDArray[np.void], groups: Sequence[Rows], policy: Policy, result: Resolution
    ) -> None:
        """Decide on the rows of the text, one group a target."""
        targets = {record.target for record in self.live}
        newest = max(groups, key=lambda group: int(group[-1]))
        for group in groups:
            target = int(digests["target"][group[0]])
            # Whoever forgets a text means it under every label, unless one of them stands.
            if target not in targets and self.blocked and (not self.live or target in self.blocked):
                result.action[group] = DUPLICATE
                result.forgotten.extend(group.tolist())
            elif self.was_learnt_from:
                for row in group.tolist():
                    result.refuse(row, "The same text is a training record already.")
            elif target in targets:
                result.action[group] = DUPLICATE
            elif self.live and policy == "quarantine" and target in self.outdated:
                result.action[group] = DUPLICATE
                result.outdated.extend(group.tolist())
            elif self.live and (
                policy == "quarantine" or (policy == "newest" and group is not newest)
            ):
                for row in group.tolist():
                    result.refuse(
                        row,
                        f"The same text was taken in before with {self.live[0].key!r} (record "
                        f"{self.live[0].record_id}).",
                    )
            else:
                result.known_side[int(group[0])] = self.held_out
                if policy == "newest" and self.live:
                    result.supersedes[int(group[0])] = [one.record_id for one in self.live]


def assign_sides(
    digests: NDArray[np.void],
    result: Resolution,
    groups: NDArray[np.int32],
    group_names: Sequence[str],
    known_groups: Mapping[str, bool],
    near: tuple[Rows, Rows, Rows],
    *,
    seed: int,
    held_out_ratio: float,
    held_out: bool,
) -> Mask:
    """Fix the side of each accepted row; a row whose text and group disagree becomes a conflict.

    Args:
        digests: One `DIGEST` a row.
        result: The decisions so far; may gain conflicts.
        groups: For each row the number of its group, or -1.
        group_names: The hashed groups.
        known_groups: Groups of the catalog, and whether they are held out.
        near: Near-duplicate pairs of accepted rows, and rows near to a held-out record.
        seed: Of the split.
        held_out_ratio: The share that is held out.
        held_out: All rows are to be held out.
    Shape: digests (n,), groups (n,), the answer (n,), true for held-out rows.
    """
    size = len(digests)
    # -1 open, 0 train, 1 held out
    own = np.full(size, -1, dtype=np.int8)
    for row, is_held_out in result.known_side.items():
        own[row] = is_held_out
    by_group = np.full(max(1, len(group_names)), -1, dtype=np.int8)
    for number, name in enumerate(group_names):
        if name in known_groups:
            by_group[number] = known_groups[name]
    has_group = groups >= 0
    theirs = np.full(size, -1, dtype=np.int8)
    theirs[has_group] = by_group[groups[has_group]]
    accepted = result.action == ACCEPT
    if held_out:
        for row in np.flatnonzero(accepted & (theirs == 0)).tolist():
            result.refuse(row, "Its group stands among the training records already.")
        return np.ones(size, dtype=np.bool_)
    keys = digests["high"].astype(np.uint64)
    if len(group_names):
        hashes = np.array([int(name[:16], 16) for name in group_names], dtype=np.uint64)
        keys = np.where(has_group, hashes[np.maximum(groups, 0)], keys)
    by_hash = held_out_by_hash(keys, seed=seed, held_out_ratio=held_out_ratio)
    first, second, near_reserve = near
    alone = not (len(first) or len(near_reserve) or len(group_names) or result.same_text)
    if alone:
        return np.where(own >= 0, own == 1, by_hash)
    fixed = np.where(theirs >= 0, theirs, own)
    wants = fixed.copy()
    wants[near_reserve] = np.where(wants[near_reserve] >= 0, wants[near_reserve], 1)
    pairs = [(first, second)]
    if result.same_text:
        same = np.array(result.same_text, dtype=np.int64)
        pairs.append((same[:, 0], same[:, 1]))
    if len(group_names):
        members = np.flatnonzero(has_group & accepted)
        # The first member of each group, looked up for every member.
        leaders = np.full(len(group_names), -1, dtype=np.int64)
        leaders[groups[members][::-1]] = members[::-1]
        pairs.append((leaders[groups[members]], members))
    family = union_groups(size, pairs)
    family_side = np.full(size, -1, dtype=np.int8)
    np.maximum.at(family_side, family[accepted], wants[accepted])
    inherited = family_side[family]
    side = np.where(inherited >= 0, inherited, by_hash[family]).astype(np.int8)
    if len(group_names):
        # A group is one: its known side, else a member's known side, else its family's.
        decided = by_group.copy()
        members = np.flatnonzero(has_group & accepted)
        for column in (own, side):
            for row in members[(decided[groups[members]] < 0) & (column[members] >= 0)].tolist():
                if decided[groups[row]] < 0:
                    decided[groups[row]] = column[row]
        torn = has_group & accepted & (own >= 0) & (own != decided[np.maximum(groups, 0)])
        for row in np.flatnonzero(torn).tolist():
            result.refuse(row, "Its text and its group stand on different sides already.")
        alone_side = np.where(own >= 0, own, side)
        by_side = np.where(has_group, decided[np.maximum(groups, 0)], alone_side)
    else:
        by_side = np.where(own >= 0, own, side)
    return np.equal(by_side, 1)
