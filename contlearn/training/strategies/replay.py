"""The default: nothing is forgotten by a frozen encoder; a fine-tuned one must prove better."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.candidates import Candidate, FeatureView
    from contlearn.training.session import FitSession, Learnt
    from contlearn.training.statistics import FeatureStatistics

__all__ = ["Replay"]


class Replay:
    """Builds the challenger in up to four ways and takes the one that does best on validation.

    1. *frozen*: the champion's encoder, with a head computed from feature statistics of all
       records ever learnt. It forgets nothing, and ties go to it.
    2. *tuned*: beginning from that head, all is fine-tuned on the new records and a balanced draw
       of exemplars; then the statistics are carried over to the new encoder and the head is
       computed from them again.
    3. *tuned, own head*: the same encoder with the head as it was trained.
    4. *tuned, both heads*: the same encoder with the mean of the two heads' scores, which is again
       a linear head.

    For heads that score words there are no statistics: fine-tuning with replay is all there is.
    """

    name: ClassVar[str] = "replay"
    summary: ClassVar[str] = (
        "replay and a balanced head; the encoder changes only if that is better"
    )
    reads_history: ClassVar[bool] = False

    class Options(StrategyOptions):
        """When to fine-tune, and how sure to be before the encoder changes."""

        fine_tune: Literal["auto", "always", "never"] = "auto"
        evidence: float = Field(0.0, ge=0.0)
        prior: float = Field(0.0, ge=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, session: FitSession) -> Learnt:
        """Make the candidates, choose, and leave the model as the chosen one."""
        from contlearn.training.session import Learnt
        from contlearn.training.tuned import calibration, describe

        if session.has_statistics:
            return self._choose(session)
        result = session.fine_tune(replayed=session.old.training_set())
        return Learnt(temperature=calibration(session), notes=describe(result))

    def _choose(self, session: FitSession) -> Learnt:
        from contlearn.training.candidates import (
            FeatureView,
            as_notes,
            choose,
            set_head,
            statistics_without_exemplars,
        )
        from contlearn.training.session import Learnt

        before = FeatureView.of(session)
        rest = statistics_without_exemplars(session, before)
        frozen = self._frozen(rest, before)
        weights = before.weights()
        candidates, notes = [frozen], dict[str, Any]()
        wanted = self.options.fine_tune
        start = copy.deepcopy(session.model.encoder)
        if wanted == "always" or (wanted == "auto" and len(weights)):
            tuned, notes = self._tuned(session, rest, frozen)
            candidates = tuned if wanted == "always" else [frozen, *tuned]
        chosen = choose(candidates, weights, evidence=self.options.evidence)
        if not chosen.is_tuned:
            session.model.encoder = start
        # What was set aside for the choice belongs to the statistics and to a computed head.
        statistics = chosen.view.added_to(chosen.statistics, "validation")
        set_head(session.model, chosen.head(statistics, prior=self.options.prior))
        notes["choice"] = as_notes(candidates, weights, chosen)
        return Learnt(statistics=statistics, encoder_changed=chosen.is_tuned, notes=notes)

    def _frozen(self, rest: FeatureStatistics, before: FeatureView) -> Candidate:
        from contlearn.training.candidates import Candidate, head_of

        known = before.added_to(rest, "train")
        shares, temperature = head_of(known, before, prior=self.options.prior)
        return Candidate("frozen", False, before, known, shares, temperature)

    def _tuned(
        self, session: FitSession, rest: FeatureStatistics, frozen: Candidate
    ) -> tuple[list[Candidate], dict[str, Any]]:
        """Fine-tune from the frozen candidate's head; give both heads of the new encoder."""
        from dataclasses import replace

        from contlearn.training.candidates import (
            Candidate,
            FeatureView,
            head_of,
            set_head,
            trained_head,
        )
        from contlearn.training.scoring import fit_temperature, right_share
        from contlearn.training.tuned import describe

        begin = frozen.statistics.head(prior=self.options.prior)
        set_head(session.model, begin.scaled(frozen.temperature))
        result = session.fine_tune(replayed=session.old.training_set())
        after = FeatureView.of(session)
        carried = rest.carried(frozen.view.rows("train")[0], after.rows("train")[0])
        known = after.added_to(carried, "train")
        shares, temperature = head_of(
            known, after, prior=self.options.prior, centre=frozen.temperature
        )
        computed = Candidate("tuned", True, after, known, shares, temperature)
        own = trained_head(session.model)
        features, targets = after.rows("validation")
        warmth = fit_temperature(own.scores(features), targets)
        found = [computed]
        for name, share in (("tuned, own head", 1.0), ("tuned, both heads", 0.5)):
            other = replace(computed, name=name, trained=own.scaled(warmth), share=share)
            scores = other.head(known, prior=self.options.prior).scores(features)
            found.append(replace(other, shares=right_share(scores, targets)))
        return found, describe(result)
