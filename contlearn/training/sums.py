"""Records that a champion has learnt and that count no longer: corrected since, or forgotten.

They are no exemplars any more, and they leave the sums that a head is computed from. Sums can be
taken apart: what a record added is subtracted, with its features under the encoder of now, as it is
done for exemplars. Where that cannot be (the text is forgotten, or the sums do not hold all records
that were learnt), they are computed again from the records that count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from contlearn.types import LabelledRecord

if TYPE_CHECKING:
    from contlearn.training.session import FitSession
    from contlearn.training.statistics import FeatureStatistics

__all__ = ["statistics_that_count"]


def statistics_that_count(
    session: FitSession, kept: FeatureStatistics
) -> tuple[FeatureStatistics, str]:
    """Give a champion's sums without the records that count no longer, under its encoder.

    Args:
        session: With the champion's encoder, as it is.
        kept: What the champion has kept; it stays as it is.
    Returns:
        The sums, and how they were made: "" as they were, "subtracted", or "computed again".
    """
    from contlearn.training.scoring import features_of
    from contlearn.training.statistics import FeatureStatistics

    found, withdrawn = kept.copy(), session.withdrawn
    found.grow(len(session.space))
    if not withdrawn.record_ids:
        return found, ""
    parts: Iterator[Sequence[LabelledRecord]] = iter((withdrawn.records,))
    is_whole = round(kept.total) == withdrawn.summed
    sign, how = -1.0, "subtracted"
    if not (is_whole and withdrawn.is_subtractable):
        found = FeatureStatistics.empty(kept.width)
        found.grow(len(session.space))
        parts, sign, how = withdrawn.remaining(), 1.0, "computed again"
    for some in parts:
        data = session.encode(some)
        features = features_of(session.model, data)
        found.add(features, data.flat.tolist(), labels=len(session.space), sign=sign)
    return found, how
