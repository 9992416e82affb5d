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

    `reads_history` asks for all records ever learnt. What else a strategy does otherwise than most
    it says with a further attribute, from which forecasts and refusals follow:

    - `begins_again = True`: it calls `session.begin_again`, and so learns from `model.base`
      whatever the champion began from;
    - `shows_exemplars = False`: it looks at no exemplar of the replay buffer;
    - `fine_tunes = False`: it takes no step, but computes a head; where an option decides, the
      instance says so.

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

    @property
    def Options(self) -> type[StrategyOptions]:  # noqa: N802  # a class; so a nested one will do
        """What may be configured; a class attribute."""
        ...

    def learn(self, session: FitSession) -> Learnt:
        """Learn the new records; the session's model is the challenger afterwards."""
        ...
