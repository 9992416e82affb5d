"""Fine-tuning on everything at once, from the base model: the upper bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt

__all__ = ["Joint"]


class Joint:
    """Begins again from the base model with all records ever learnt; its cost grows with them."""

    name: ClassVar[str] = "joint"
    summary: ClassVar[str] = "fine-tunes the base model on all records ever learnt; a reference"
    reads_history: ClassVar[bool] = True
    starts_anew: ClassVar[bool] = True

    class Options(StrategyOptions):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Fine-tune on history and new records, with whichever head does better on validation."""
        from contlearn.training.strategies.replay import Replay

        session.begin_again()
        return Replay(Replay.Options(fine_tune="always")).learn(session)
