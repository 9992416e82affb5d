"""The held-out rows a version is measured on: a bounded reserve that loses no experience."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contlearn.catalog import Catalog
from contlearn.catalog.records import (
    count_experience,
    counting_ids,
    experience_sample,
    kept_ids,
)
from contlearn.errors import StorageError
from contlearn.papers.scores import read_scores
from contlearn.types import HeldOutSet
from contlearn.workspace import Workspace

__all__ = ["corrected_sets", "fair_shares", "read_held_out"]


def read_held_out(
    workspace: Workspace,
    catalog: Catalog,
    cycles: Sequence[str],
    *,
    capacity: int,
    new: str | None = None,
) -> tuple[HeldOutSet, ...]:
    """Read the held-out sets of a lineage, at most `capacity` rows together.

    What is kept of an experience are its rows with the lowest ids. Ids are hashes, so that is a
    random choice, and a smaller one is part of a larger one: when the reserve of an experience
    shrinks, the champion's answers on what remains are known already.

    Args:
        workspace: Where the texts are.
        catalog: Knows the rows of each experience.
        cycles: The cycles that brought the experiences, oldest first.
        capacity: Rows of all sets together; each set gets the same, if it has as many.
        new: The cycle on trial.
    """
    from contlearn.data.store import read_records

    with catalog.read() as connection:
        sizes = [count_experience(connection, c, "held_out", at_most=capacity) for c in cycles]
        ids = [
            experience_sample(connection, cycle, "held_out", share)
            for cycle, share in zip(cycles, fair_shares(sizes, capacity), strict=True)
        ]
        kept = frozenset() if new is None else kept_ids(connection, new)
    sets = []
    for index, (cycle, some) in enumerate(zip(cycles, ids, strict=True)):
        records = tuple(read_records(workspace, catalog, some))
        if records:
            sets.append(
                HeldOutSet(
                    experience=cycle,
                    index=index,
                    records=records,
                    is_new=cycle == new,
                    kept=kept if cycle == new else frozenset(),
                )
            )
    return tuple(sets)


def corrected_sets(catalog: Catalog, version: Path) -> frozenset[str]:
    """Name the experiences of which a version was measured on rows that count no longer.

    Args:
        catalog: Knows which records count.
        version: Its folder; scores that cannot be read name none.
    """
    try:
        measured = {item.experience: item.record_ids for item in read_scores(version).sets}
    except StorageError:
        return frozenset()
    with catalog.read() as connection:
        return frozenset(
            experience
            for experience, ids in measured.items()
            if len(counting_ids(connection, catalog.ids, ids)) < len(set(ids))
        )


def fair_shares(sizes: Sequence[int], capacity: int) -> list[int]:
    """Share out a capacity: all get the same, those with less leave their rest to the others.

    Example:
        >>> fair_shares([10, 500, 500], 100), fair_shares([10, 20], 100)
        ([10, 45, 45], [10, 20])
    """
    shares = [0] * len(sizes)
    left = capacity
    order = sorted(range(len(sizes)), key=lambda place: sizes[place])
    for done, place in enumerate(order):
        shares[place] = min(sizes[place], left // (len(sizes) - done))
        left -= shares[place]
    return shares
