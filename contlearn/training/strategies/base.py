"""What a strategy is given, and what it promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt

__all__ = ["LearningStrategy", "StrategyOptions"]


class StrategyOptions(BaseModel):
    """Options of a strategy; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LearningStrategy(Protocol):
    """Turns the session's model, the champion with room for new labels, into the challenger.

    One that calls `session.begin_again`, and so learns from `model.base` whatever the champion
    began from, says so with `begins_again = True`.

    Example:
        class HeadOnly:
            name = "head-only"
            summary = "trains nothing but the head"
            reads_history = False

            class Options(StrategyOptions):
                pass

            def __init__(self, options): ...

            def learn(self, session):
                session.model.encoder.requires_grad_(False)
                session.fine_tune()
                return Learnt(encoder_changed=False)
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reads_history: ClassVar[bool]
    Options: ClassVar[type[StrategyOptions]]

    def learn(self, session: FitSession) -> Learnt:
        """Learn the new records; the session's model is the challenger afterwards."""
        ...
