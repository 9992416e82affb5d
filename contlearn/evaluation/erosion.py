"""Small losses that add up: the challenger against the best proven version of its lineage.

Not being worse than the last champion does not bound what a hundred updates lose: each may lose a
little that chance hides (clinical trials call it biocreep). So the lineage remembers its best
proven version, the anchor. It moves only to a version that is better beyond doubt on old rows: the
best observed one would be the luckiest, and hardly any honest successor would be as lucky.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, ClassVar, Final

from pydantic import BaseModel

from contlearn.evaluation.evidence import (
    TINY,
    change,
    compare,
    disagreement,
    has_champion,
    level,
    old_sets,
    rows_needed,
    rows_of,
    spec_of,
    titled,
)
from contlearn.evaluation.rules import RuleOptions
from contlearn.evaluation.sides import count_changes
from contlearn.interfaces import GateEvidence
from contlearn.statistics.non_inferiority import shift_bound
from contlearn.types import PromotionDecision, RuleOutcome

__all__ = ["AgainstAnchor", "NoErosion", "against_anchor", "judge_anchor", "level_of"]

# The levels of all looks together are 1 - `gate.confidence`: look t gets the share 1 / t ** _POWER
# of their sum, which is Riemann's zeta of _POWER.
_POWER: Final = 1.1
_ZETA: Final = 10.584448
# With fewer old rows the same rows judge luck and loss more often, and the level is lower.
_MANY_ROWS: Final = 1000


def level_of(look: int, rows: int, confidence: float) -> float:
    """Give the chance of a wrong pass that one look of a lineage may take.

    Example:
        >>> round(level_of(1, 2000, 0.95), 5), round(level_of(50, 2000, 0.95), 6)
        (0.00472, 6.4e-05)
    """
    share = 1.0 / (_ZETA * math.pow(look, _POWER))
    return (1.0 - confidence) * share * min(1.0, rows / _MANY_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstAnchor:
    """A challenger beside the best proven version, on old held-out rows that both answered.

    The true difference is above `lower`, with a chance of error of `allowed`; in the unit of the
    metric, and above 0 is better. On `apart` of the rows the two answer differently.
    """

    version: int
    look: int
    metric: str
    rows: int
    anchor: float
    challenger: float
    lower: float
    allowed: float
    apart: float

    @property
    def observed(self) -> float:
        """The difference on the rows as they are."""
        return self.challenger - self.anchor

    @property
    def proves_gain(self) -> bool:
        """Whether the challenger is better beyond doubt, so that it is the anchor from now on."""
        return self.lower > 0.0

    def to_json(self) -> dict[str, Any]:
        """Give what the manifest of the challenger says."""
        return {
            "version": self.version,
            "look": self.look,
            "proves_gain": self.proves_gain,
            "metric": self.metric,
            "rows": self.rows,
            "difference": self.observed,
            "lower": self.lower,
            "allowed": self.allowed,
        }


def against_anchor(evidence: GateEvidence) -> AgainstAnchor | None:
    """Compare the challenger with the anchor; None without a champion or old rows.

    A share of rows is compared by Tango's score, other metrics by a normal bound with the spread of
    their bootstrap: the level is too strict to be read off a few thousand draws.
    """
    pairs = tuple(
        pair if pair.anchor is None else replace(pair, champion=pair.anchor)
        for pair in old_sets(evidence)
    )
    if not pairs or evidence.anchor is None:
        return None
    rows = sum(map(rows_of, pairs))
    allowed = level_of(evidence.anchor.look, rows, evidence.config.confidence)
    if spec_of(evidence).is_share_of_rows:
        result = compare(evidence, pairs, resamples=1)
        changes = count_changes(pairs)
        lower = shift_bound(changes.won, changes.lost, rows, 1.0 - allowed)
    else:
        result = compare(evidence, pairs)
        # As many rows as differ say how far to trust the spread.
        free = max(result.differing, 3)
        wider = math.sqrt((free + 1.0) / (free - 1.0))
        asked = NormalDist().inv_cdf(1.0 - allowed)
        lower = result.observed - asked * wider * float(result.draws.std())
    return AgainstAnchor(
        version=evidence.anchor.version,
        look=evidence.anchor.look,
        metric=evidence.metric,
        rows=rows,
        anchor=result.champion,
        challenger=result.challenger,
        lower=lower,
        allowed=allowed,
        apart=disagreement(evidence, pairs),
    )


class NoErosion:
    """Not worse by the margin than the best proven version: small losses must not add up.

    The challenger is compared on all old held-out rows with the anchor of its lineage; on rows of
    experiences that came later, with the first version that had learnt them. The bound's confidence
    holds over all looks of the lineage together: each look gets a smaller share of
    1 - `gate.confidence` than the one before. A challenger that does not show it is kept back and
    not refused: its records may be sound.

    Below `gate.min_evidence_rows` old rows it judges only with `gate.short_evidence = "refuse"`:
    so few rows cannot show it, and nothing would ever be promoted.
    """

    name: ClassVar[str] = "no-erosion"
    summary: ClassVar[str] = "not worse than the margin against the best version of the lineage"
    Options: ClassVar[type[BaseModel]] = RuleOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Bound the loss against the best proven version."""
        if not has_champion(evidence) or evidence.anchor is None:
            why = "There is no proven version to compare with"
            return (RuleOutcome.not_applicable(self.name, why),)
        seen = against_anchor(evidence)
        if seen is None:
            return (
                RuleOutcome.not_applicable(
                    self.name, "Earlier experiences have no held-out rows to compare versions on"
                ),
            )
        config = evidence.config
        if seen.rows < config.min_evidence_rows and config.short_evidence != "refuse":
            return (
                RuleOutcome.not_applicable(
                    self.name,
                    f"{seen.rows} old held-out rows are fewer than gate.min_evidence_rows = "
                    f"{config.min_evidence_rows}, too few to see small losses add up",
                ),
            )
        passed = seen.lower > -config.margin + TINY
        message = (
            f"{titled(evidence)} on {seen.rows} old held-out rows: "
            f"{level(evidence, seen.challenger)}, the best proven version {seen.version} "
            f"{level(evidence, seen.anchor)}; the difference is {change(evidence, seen.observed)}, "
            f"and above {change(evidence, seen.lower)} but for one chance in "
            f"{round(1.0 / seen.allowed):,} (look {seen.look} of this lineage); it must be above "
            f"{change(evidence, -config.margin)}."
        )
        if not passed:
            needed = rows_needed(config.margin, seen.apart, 1.0 - seen.allowed)
            with_rows = "With these rows" if needed <= seen.rows else f"With {needed:,} such rows"
            message += (
                f" {with_rows} a version as good as that one shows it in 4 cases of 5. Where a "
                "loss is wanted, `contlearn anchor reset` counts anew."
            )
        return (
            RuleOutcome(
                rule=self.name,
                passed=passed,
                measured=seen.lower,
                required=-config.margin,
                message=message,
                keeps=not passed,
            ),
        )


def judge_anchor(evidence: GateEvidence, decision: PromotionDecision) -> dict[str, Any] | None:
    """Give what a cycle remembers of the comparison; None where there was nothing to compare.

    `counts` says that only this comparison could stop the challenger: such a look takes its share
    of the lineage's chance of error.
    """
    seen = against_anchor(evidence)
    if seen is None or evidence.anchor is None:
        return None
    judged = any(o.rule == NoErosion.name and o.passed is not None for o in decision.outcomes)
    others = all(o.passed is not False for o in decision.outcomes if o.rule != NoErosion.name)
    return {**seen.to_json(), "reset": evidence.anchor.reset, "counts": judged and others}
