"""Drift of labels: what arrives, and what is predicted, against what the champion has learnt.

Pure Python and two indexed queries, so that the daemon can ask at every scrape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.counting import GONE_STATES, counts
from contlearn.catalog.schema import records
from contlearn.statistics.shares import ShareDrift, compare_shares, psi_quantile

__all__ = ["LabelDriftWatch", "learnt_labels", "newest_labels"]

_OTHERS = "(other)"
# Balance keys of tagging are sets of types and could be many; the tail is counted together.
_MAX_KEYS = 200


def learnt_labels(connection: Connection) -> dict[str, int]:
    """Count the labels of all records the champion stands on: the reference."""
    query = (
        sa.select(records.c.key, sa.func.count())
        .where(records.c.state == "learnt")
        .group_by(records.c.key)
    )
    return {str(key): int(number) for key, number in connection.execute(query)}


def newest_labels(connection: Connection, window: int) -> tuple[dict[str, int], int]:
    """Count the labels of the records that arrived last, of all that count.

    Returns:
        The counts, and the number of the newest record: unchanged means nothing arrived.
    """
    newest = (
        sa.select(records.c.key, records.c.seq)
        .where(counts())
        .order_by(records.c.seq.desc())
        .limit(window)
    )
    rows = connection.execute(newest).all()
    return dict(Counter(str(key) for key, _ in rows)), (rows[0][1] if rows else 0)


def _number_gone(connection: Connection) -> int:
    """Count the records that count no longer; an index alone is read."""
    query = sa.select(sa.func.count()).where(records.c.state.in_(GONE_STATES))
    return int(connection.execute(query).scalar_one())


@dataclass
class LabelDriftWatch:
    """Compares windows with a reference, and remembers what does not change between them.

    The reference changes only with the champion and with what it has learnt and counts no longer,
    what chance reaches only with reference and window size, so that a look at a workspace costs
    little more than one query over the window.

    Args:
        window: Records in a window.
        limit: The least index worth an alarm: `monitoring.drift_threshold`.
        min_records: Below this a window says nothing.
    """

    window: int = 500
    limit: float = 0.2
    min_records: int = 50
    _champion: tuple[int, int] | None = field(default=None, init=False)
    _reference: dict[str, int] = field(default_factory=dict, init=False)
    _chance: dict[int, float] = field(default_factory=dict, init=False)
    _seen: tuple[int, ShareDrift | None] = field(default=(-1, None), init=False)

    def arrived(self, connection: Connection, champion: int | None) -> ShareDrift | None:
        """Judge the labels that arrived last; None without a champion or with too few records."""
        self._take_reference(connection, champion)
        if not self._reference:
            return None
        counts, newest = newest_labels(connection, self.window)
        if newest != self._seen[0]:
            self._seen = (newest, self._compare(counts))
        return self._seen[1]

    def predicted(
        self, connection: Connection, champion: int | None, counts: Mapping[str, int]
    ) -> ShareDrift | None:
        """Judge the labels that the server predicted last (`PredictionLog` counts them)."""
        self._take_reference(connection, champion)
        return self._compare(counts) if self._reference else None

    def _take_reference(self, connection: Connection, champion: int | None) -> None:
        if champion is None:
            self._reference, self._champion = {}, None
        elif (key := (champion, _number_gone(connection))) != self._champion:
            self._reference = _folded(learnt_labels(connection))
            self._champion = key
            self._chance.clear()
            self._seen = (-1, None)

    def _compare(self, counts: Mapping[str, int]) -> ShareDrift | None:
        number = sum(counts.values())
        if number < self.min_records:
            return None
        window = _folded(counts, keep=tuple(self._reference))
        # What chance reaches falls as the window grows: the next smaller size on a coarse grid is
        # on the safe side, and each is computed once.
        size = self.min_records
        while size * 2 <= number:
            size *= 2
        size = number if number == self.window else size
        if size not in self._chance:
            self._chance[size] = psi_quantile(self._reference, size)
        return compare_shares(self._reference, window, limit=self.limit, chance=self._chance[size])


def _folded(counts: Mapping[str, int], *, keep: Sequence[str] = ()) -> dict[str, int]:
    """Count the rare keys together once there are too many; keys to keep stay."""
    if len(counts) <= _MAX_KEYS:
        return dict(counts)
    order = sorted(counts, key=lambda key: (key not in keep, -counts[key], key))
    folded = {key: counts[key] for key in order[:_MAX_KEYS]}
    folded[_OTHERS] = folded.get(_OTHERS, 0) + sum(counts[key] for key in order[_MAX_KEYS:])
    return folded
