"""What the best proven version of a lineage answers on old held-out rows, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from contlearn.errors import ContlearnError, StorageError
from contlearn.evaluation.answers import answer_set
from contlearn.interfaces import Predictor, Task
from contlearn.papers.scores import Answers, read_scores
from contlearn.types import HeldOutSet, Target

__all__ = ["BestAnswers", "known_best"]


def known_best(champion: Path) -> dict[str, Target]:
    """Give what the best versions answered, by record id, from the champion's scores.

    On rows that were new to the champion it is the best so far: nobody else had learnt them. Scores
    that cannot be read give nothing.
    """
    try:
        scores = read_scores(champion)
    except StorageError:
        return {}
    known: dict[str, Target] = {}
    for item in scores.sets:
        best = item.challenger if item.is_new else item.anchor or item.champion or item.challenger
        known.update(zip(item.record_ids, best.targets, strict=True))
    return known


@dataclass
class BestAnswers:
    """What the best proven version answers on old rows.

    Args:
        known: Its answers by record id, as `known_best` gives them.
        learnt: The experiences it has learnt; on their rows it is asked what is not known.
        load: Loads it; only called when a row is to be asked.
    """

    known: Mapping[str, Target]
    learnt: frozenset[str]
    load: Callable[[], Predictor]
    unknown: int = 0
    _loaded: Predictor | None = field(default=None, init=False, repr=False)

    def on(self, held_out: HeldOutSet, champion: Answers, task: Task) -> Answers:
        """Answer a set; where nothing is known and nobody to ask, as the champion does.

        How many rows that were is added to `unknown`.
        """
        missing = tuple(r for r in held_out.records if r.record_id not in self.known)
        asked: dict[str, Target] = {}
        if missing and held_out.experience in self.learnt:
            asked = self._ask(replace(held_out, records=missing), task)
        self.unknown += len(missing) - len(asked)
        return Answers(
            tuple(
                self.known.get(record.record_id, asked.get(record.record_id, theirs))
                for record, theirs in zip(held_out.records, champion.targets, strict=True)
            )
        )

    def _ask(self, held_out: HeldOutSet, task: Task) -> dict[str, Target]:
        try:
            self._loaded = self._loaded or self.load()
        except ContlearnError:
            return {}
        answers = answer_set(self._loaded, held_out, task)
        ids = (record.record_id for record in held_out.records)
        return dict(zip(ids, answers.targets, strict=True))
