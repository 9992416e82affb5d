"""The base model on the new records alone: what a model without a past knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt

__all__ = ["FromScratch"]


class FromScratch:
    """Begins again from the base model and sees nothing but what is new; a lower bound."""

    name: ClassVar[str] = "from-scratch"
    summary: ClassVar[str] = "fine-tunes the base model on the new records alone; a lower bound"
    reads_history: ClassVar[bool] = False
    shows_exemplars: ClassVar[bool] = False
    begins_again: ClassVar[bool] = True

    class Options(StrategyOptions):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Fine-tune the base model on the new records."""
        from contlearn.training.session import Learnt
        from contlearn.training.tuned import calibration, describe

        session.begin_again()
        result = session.fine_tune()
        return Learnt(calibration=calibration(session), notes=describe(result))
