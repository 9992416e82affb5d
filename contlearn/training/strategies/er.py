"""Experience replay and nothing else: the textbook baseline that most methods build on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt

__all__ = ["ExperienceReplay"]


class ExperienceReplay:
    """Goes on training the champion on new records and a balanced draw of exemplars.

    Source: Rolnick et al., "Experience Replay for Continual Learning", 2019.
    """

    name: ClassVar[str] = "er"
    summary: ClassVar[str] = "fine-tunes on new records and exemplars, with the head as trained"
    reads_history: ClassVar[bool] = False

    class Options(StrategyOptions):
        """None."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Fine-tune on new records and exemplars."""
        from contlearn.training.session import Learnt
        from contlearn.training.tuned import calibration, describe

        result = session.fine_tune(replayed=session.old.training_set())
        return Learnt(calibration=calibration(session), notes=describe(result))
