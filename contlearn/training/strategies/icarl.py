"""iCaRL: features by replay and distillation, labels by the nearest mean of exemplars."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt

__all__ = ["ICarl"]


class ICarl:
    """Fine-tunes with exemplars and the champion as teacher; the head is the labels' mean features.

    Nearest mean of normalised features is a linear head, so it is served like any other. Goes with
    replay.policy = "herding".

    Source: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", 2017.
    """

    name: ClassVar[str] = "icarl"
    summary: ClassVar[str] = "replay, distillation, and the nearest mean of exemplars as the head"
    needs: ClassVar[frozenset[str]] = frozenset(("class-sums",))
    reads_history: ClassVar[bool] = False

    class Options(StrategyOptions):
        """Weight and temperature of the distillation."""

        alpha: float = Field(1.0, gt=0.0)
        temperature: float = Field(2.0, gt=0.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Fine-tune, then compute the head."""
        from contlearn.training.candidates import FeatureView, head_of, set_head
        from contlearn.training.regularizers.lwf import Lwf
        from contlearn.training.session import Learnt
        from contlearn.training.statistics import FeatureStatistics
        from contlearn.training.tuned import describe

        options = self.options
        teacher = Lwf(Lwf.Options(alpha=options.alpha, temperature=options.temperature))
        result = session.fine_tune(replayed=session.old.training_set(), extra=(teacher,))
        view = FeatureView.of(session)
        empty = FeatureStatistics.empty(session.model.width)
        empty.grow(len(session.space))
        statistics = view.added_to(empty, "train")
        _, temperature = head_of(statistics, view, prior=0.0, kind="cosine")
        statistics = view.added_to(statistics, "validation")
        set_head(session.model, statistics.head(kind="cosine").scaled(temperature))
        return Learnt(notes=describe(result))
