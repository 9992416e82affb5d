"""A model made anew from a balanced memory alone: the check on everything cleverer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt
    from contlearn.types import LabelledRecord

__all__ = ["GDumb"]


class GDumb:
    """Trains the base model on exemplars and as many new records of each label, and nothing else.

    Source: Prabhu, Torr and Dokania, "GDumb: A Simple Approach that Questions Our Progress in
    Continual Learning", 2020.
    """

    name: ClassVar[str] = "gdumb"
    summary: ClassVar[str] = "the base model, trained anew on a balanced memory alone"
    reads_history: ClassVar[bool] = False
    begins_again: ClassVar[bool] = True

    class Options(StrategyOptions):
        """How many records a label; 0 for as many as the exemplars have at most."""

        per_label: int = Field(0, ge=0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Gather the memory, begin again, train."""
        import numpy as np

        from contlearn.training.session import Learnt
        from contlearn.training.tuned import calibration, describe

        groups: dict[str, list[LabelledRecord]] = {}
        old, new = session.old.data.records, session.new.data.records
        for record in old:
            groups.setdefault(session.task.balance_key(record.target), []).append(record)
        most = self.options.per_label or max((len(g) for g in groups.values()), default=0)
        generator = np.random.default_rng([session.seed, session.state.experiences])
        for position in generator.permutation(len(new)):
            record = new[int(position)]
            group = groups.setdefault(session.task.balance_key(record.target), [])
            if not most or len(group) < most:
                group.append(record)
        memory = [record for key in sorted(groups) for record in groups[key]]
        session.begin_again(memory)
        result = session.fine_tune()
        notes = {**describe(result), "memory": len(memory)}
        return Learnt(calibration=calibration(session), notes=notes)
