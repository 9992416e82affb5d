"""Fine-tuning on the new records alone: the baseline that forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt

__all__ = ["Naive"]


class Naive:
    """Goes on training the champion on what is new. Regularisers may stand on top."""

    name: ClassVar[str] = "naive"
    summary: ClassVar[str] = "fine-tunes on the new records alone; forgets"
    reads_history: ClassVar[bool] = False
    shows_exemplars: ClassVar[bool] = False

    class Options(StrategyOptions):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Fine-tune on the new records."""
        from contlearn.training.session import Learnt
        from contlearn.training.tuned import calibration, describe

        result = session.fine_tune()
        return Learnt(calibration=calibration(session), notes=describe(result))
