"""The default: fine-tuning with replay, under a head that remembers all records ever learnt."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from contlearn.training.strategies.base import StrategyOptions

if TYPE_CHECKING:
    from contlearn.training.candidates import Candidate, FeatureView
    from contlearn.training.session import FitSession, Learnt
    from contlearn.training.statistics import FeatureStatistics, HeadKind, LinearHead

__all__ = ["Replay"]


class Replay:
    """Builds the challenger in up to three ways and takes the one that does best on validation.

    1. *tuned*: beginning from a head computed from feature statistics of all records ever learnt,
       all is fine-tuned on the new records and a balanced draw of exemplars; then the statistics
       are carried over to the new encoder and the head is computed from them again.
    2. *tuned, both heads*: the same encoder with the mean of the scores of that head and of the
       one that was trained, which is again a linear head.
    3. *frozen*: the champion's encoder with the computed head. It forgets nothing.

    The second stands only where the new records bring no labels, and there it stands first: a
    trained head leans towards new labels, by more than few exemplars can show. Another than the
    first is taken only if it leads by `evidence` standard errors: few exemplars are set aside, and
    the best on few rows is mostly the luckiest. Every experience counts the same, up to five of
    them. Where there are no exemplars nothing can be forgotten: whichever does best is taken, the
    trained head alone included.

    `head` may add a nearest-mean or cosine head to the choice, for labels with few examples;
    `interpolate` encoders between the champion's and the tuned one.

    For heads that score words there are no statistics: fine-tuning with replay is all there is.
    """

    name: ClassVar[str] = "replay"
    summary: ClassVar[str] = "replay, and a head computed from all that was ever learnt"
    reads_history: ClassVar[bool] = False

    class Options(StrategyOptions):
        """When to fine-tune, and how sure to be before the choice is another than the usual one."""

        fine_tune: Literal["auto", "always", "never"] = "auto"
        evidence: float = Field(2.0, ge=0.0)
        prior: float = Field(0.0, ge=0.0, le=1.0)
        head: Literal["lda", "nearest-mean", "cosine", "any"] = "lda"
        interpolate: tuple[float, ...] = ()

        @field_validator("interpolate")
        @classmethod
        def _between(cls, value: tuple[float, ...]) -> tuple[float, ...]:
            if any(not 0.0 < share < 1.0 for share in value):
                raise ValueError("each share of the tuned weights lies between 0 and 1")
            return value

    def __init__(self, options: Options) -> None:
        self.options = options
        self.fine_tunes = options.fine_tune != "never"

    def learn(self, session: FitSession) -> Learnt:
        """Make the candidates, choose, and leave the model as the chosen one."""
        from contlearn.training.session import Learnt
        from contlearn.training.tuned import calibration, describe

        if session.has_statistics:
            return self._choose(session)
        result = session.fine_tune(replayed=session.old.training_set())
        return Learnt(calibration=calibration(session), notes=describe(result))

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
        rest, withdrawn = statistics_without_exemplars(session, before)
        computed = self._computed("frozen", rest, before)
        frozen = computed[0]
        weights = before.weights(session.experiences_before + 1)
        has_past = len(before.parts) > 1
        candidates, notes = list(computed), dict[str, Any]()
        wanted = self.options.fine_tune
        start = copy.deepcopy(session.model.encoder)
        if wanted == "always" or (wanted == "auto" and len(weights)):
            tuned, notes = self._tuned(session, rest, frozen, start)
            if has_past and _brings_labels(session):
                tuned = [candidate for candidate in tuned if candidate.trained is None]
            elif has_past:
                tuned = sorted(tuned, key=lambda candidate: candidate.trained is None)
            candidates = tuned if wanted == "always" else [*tuned, *computed]
        evidence = self.options.evidence if has_past else 0.0
        chosen = choose(candidates, weights, evidence=evidence)
        if not chosen.is_tuned:
            session.model.encoder = start
        elif chosen.encoder is not None:
            session.model.encoder.load_state_dict(chosen.encoder)
        # What was set aside for the choice belongs to the statistics and to a computed head.
        statistics = chosen.view.added_to(chosen.statistics, "validation")
        set_head(session.model, chosen.head(statistics, prior=self.options.prior))
        notes["choice"] = as_notes(candidates, weights, chosen)
        if withdrawn:
            notes["withdrawn"] = {
                "records": len(session.withdrawn.record_ids),
                "sums": withdrawn,
            }
        return Learnt(statistics=statistics, encoder_changed=chosen.is_tuned, notes=notes)

    def _computed(
        self,
        name: str,
        rest: FeatureStatistics,
        view: FeatureView,
        *,
        is_tuned: bool = False,
        centre: float | None = None,
    ) -> list[Candidate]:
        """Give the candidates whose heads are computed, one for each kind."""
        from contlearn.training.candidates import Candidate, head_of

        known = view.added_to(rest, "train")
        kinds: dict[str, tuple[HeadKind, ...]] = {
            "lda": ("lda",),
            "nearest-mean": ("nearest-mean",),
            "cosine": ("cosine",),
            "any": ("lda", "nearest-mean", "cosine"),
        }
        found = []
        for kind in kinds[self.options.head]:
            shares, temperature = head_of(
                known,
                view,
                prior=self.options.prior,
                centre=centre if kind == "lda" else None,
                kind=kind,
            )
            title = name if kind == "lda" else f"{name}, {kind}"
            found.append(Candidate(title, is_tuned, view, known, shares, temperature, kind=kind))
        return found

    def _tuned(
        self, session: FitSession, rest: FeatureStatistics, frozen: Candidate, start: Any
    ) -> tuple[list[Candidate], dict[str, Any]]:
        """Fine-tune from the frozen candidate's head; give the heads of the new encoders."""
        from contlearn.training.candidates import set_head, trained_head
        from contlearn.training.tuned import describe

        begin = frozen.statistics.head(prior=self.options.prior, kind=frozen.kind)
        begin = begin.scaled(frozen.temperature)
        set_head(session.model, begin)
        result = session.fine_tune(replayed=session.old.training_set())
        own = trained_head(session.model)
        found = self._under(session, "tuned", rest, frozen, own)
        for share, encoder in self._between(session, start):
            head = begin.mixed(own, share)
            for candidate in self._under(session, f"{share:g} of the way", rest, frozen, head):
                candidate.encoder = encoder
                found.append(candidate)
        return found, describe(result)

    def _under(
        self,
        session: FitSession,
        name: str,
        rest: FeatureStatistics,
        frozen: Candidate,
        own: LinearHead,
    ) -> list[Candidate]:
        """Give the candidates of the encoder at hand: with a computed head and a trained one."""
        from dataclasses import replace

        from contlearn.statistics.calibration import fit_temperature
        from contlearn.training.candidates import FeatureView
        from contlearn.training.scoring import right_share

        view = FeatureView.of(session)
        carried = rest.carried(
            list(zip(frozen.view.by_part("train"), view.by_part("train"), strict=True))
        )
        found = self._computed(name, carried, view, is_tuned=True, centre=frozen.temperature)
        features, targets = view.rows("validation")
        warmth = fit_temperature(own.scores(features), targets)
        shares = {"both heads": 0.5}
        if len(view.parts) == 1:  # nothing to forget
            shares["own head"] = 1.0
        for title, share in shares.items():
            other = replace(
                found[0], name=f"{name}, {title}", trained=own.scaled(warmth), share=share
            )
            scores = other.head(other.statistics, prior=self.options.prior).scores(features)
            found.append(replace(other, shares=right_share(scores, targets)))
        return found

    def _between(self, session: FitSession, start: Any) -> Iterator[tuple[float, dict[str, Any]]]:
        """Put encoders that lie between the champion's and the tuned one into the model, in turn.

        Source: Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models" (WiSE-FT), 2022.
        """
        encoder = session.model.encoder
        tuned = {name: value.detach().clone() for name, value in encoder.state_dict().items()}
        before = start.state_dict()
        if tuned.keys() != before.keys():
            return  # the method put something around the encoder: there is nothing in between
        for share in self.options.interpolate:
            mixed = {
                name: before[name].lerp(value, share) if value.is_floating_point() else value
                for name, value in tuned.items()
            }
            encoder.load_state_dict(mixed)
            yield share, mixed
        encoder.load_state_dict(tuned)


def _brings_labels(session: FitSession) -> bool:
    """Say whether a new record has a label that no exemplar has."""
    key = session.task.balance_key
    old = {key(record.target) for record in session.old.data.records}
    return any(key(record.target) not in old for record in session.new.data.records)
