"""A tuned logistic regression on the base model's features: the baseline for everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.session import FitSession, Learnt

__all__ = ["FrozenHead"]


class FrozenHead:
    """Leaves the base encoder as it is and fits a head on all records ever learnt."""

    name: ClassVar[str] = "frozen-head"
    summary: ClassVar[str] = "logistic regression on frozen features of all records; a reference"
    needs: ClassVar[frozenset[str]] = frozenset(("classes",))
    reads_history: ClassVar[bool] = True
    begins_again: ClassVar[bool] = True
    fine_tunes: ClassVar[bool] = False

    class Options(StrategyOptions):
        """Inverse strengths of regularisation to choose from by cross-validation."""

        strengths: tuple[float, ...] = Field((0.03, 0.3, 3.0), min_length=1)
        folds: int = Field(3, ge=2)

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Fit the head."""
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_score

        from contlearn.training.candidates import set_head
        from contlearn.training.scoring import features_of
        from contlearn.training.session import Learnt
        from contlearn.training.statistics import FeatureStatistics, LinearHead
        from contlearn.training.tuned import calibration

        session.begin_again()
        data = session.new.data
        features, targets = features_of(session.model, data), data.flat.numpy()
        statistics = FeatureStatistics.empty(session.model.width)
        statistics.add(features, targets.tolist(), labels=len(session.space))
        centre = features.mean(axis=0)
        scale = max(float(features.std()), 1e-12)
        inputs = (features - centre) / scale

        def regression(strength: float) -> LogisticRegression:
            return LogisticRegression(C=strength, max_iter=300, tol=1e-3)

        best = self.options.strengths[0]
        rarest = int(np.bincount(targets).clip(min=0)[np.unique(targets)].min(initial=0))
        if len(self.options.strengths) > 1 and rarest >= self.options.folds:
            folds = StratifiedKFold(self.options.folds, shuffle=True, random_state=session.seed)
            scores = [
                float(cross_val_score(regression(s), inputs, targets, cv=folds).mean())
                for s in self.options.strengths
            ]
            best = self.options.strengths[int(np.argmax(scores))]
        known = np.unique(targets)
        weight = np.zeros((len(session.space), session.model.width))
        bias = np.full(len(session.space), -1e4)
        if len(known) > 1:
            fitted = regression(best).fit(inputs, targets)
            rows, offsets = fitted.coef_, fitted.intercept_
            if len(known) == 2:  # scikit-learn keeps one row for two classes
                rows, offsets = np.concatenate([-rows, rows]), np.concatenate([-offsets, offsets])
            weight[known] = rows / scale
            bias[known] = offsets - (rows / scale) @ centre
        else:
            bias[known] = 0.0
        set_head(session.model, LinearHead(weight, bias))
        return Learnt(
            calibration=calibration(session),
            statistics=statistics if session.has_statistics else None,
            notes={"strength": best},
        )
